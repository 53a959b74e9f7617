import './two-workers.js';

import '../over-rate.test.js';
