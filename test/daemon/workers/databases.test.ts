import './two-workers.js';

import '../databases.test.js';
