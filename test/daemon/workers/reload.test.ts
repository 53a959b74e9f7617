import './two-workers.js';

import '../reload.test.js';
