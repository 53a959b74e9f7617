import './two-workers.js';

import '../frames.test.js';
