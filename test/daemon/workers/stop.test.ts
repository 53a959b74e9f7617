import './two-workers.js';

import '../stop.test.js';
