import { serveWith } from '../running.js';

// By being imported first: tests have to be declared while their file is loaded. Daemons of their own processes are told, too.
serveWith(2);
process.env['PROGRESSDB_KMS_WORKERS'] = '2';
