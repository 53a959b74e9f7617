import './two-workers.js';

import '../hostile.test.js';
