import './two-workers.js';

import '../access.test.js';
