import './two-workers.js';

import '../../audit/daemon-data.test.js';
