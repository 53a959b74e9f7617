import './two-workers.js';

import '../token-access.test.js';
