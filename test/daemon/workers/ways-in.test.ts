import './two-workers.js';

import '../ways-in.test.js';
