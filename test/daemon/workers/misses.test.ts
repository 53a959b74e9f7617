import './two-workers.js';

import '../misses.test.js';
