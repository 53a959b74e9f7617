/** Loaded into a daemon under test, with --expose-gc: SIGUSR2 collects, so that its size is what it holds and not what V8 put off. */
process.on('SIGUSR2', () => globalThis.gc?.());
