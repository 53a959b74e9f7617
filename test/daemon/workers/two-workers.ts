import { serveWith } from '../running.js';

// By being imported first: tests have to be declared while their file is loaded.
serveWith(2);
