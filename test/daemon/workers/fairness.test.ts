import './two-workers.js';

import '../fairness.test.js';
