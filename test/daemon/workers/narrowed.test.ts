import './two-workers.js';

import '../narrowed.test.js';
