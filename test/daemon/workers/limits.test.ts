import './two-workers.js';

import '../limits.test.js';
