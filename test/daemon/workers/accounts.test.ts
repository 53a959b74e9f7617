import './two-workers.js';

import '../accounts.test.js';
