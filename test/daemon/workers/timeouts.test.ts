import './two-workers.js';

import '../timeouts.test.js';
