import { terminalBar } from './terminal-bar.js';

/** Shows how many of a number of keys are done. */
export interface KeyProgress {
  one(): void;
  stop(): void;
}

/** Below this the work is done before a bar could be read. */
const LEAST_KEYS = 1_000;

/** Does nothing where nobody looks or it is not known how many there are. */
export function keyProgress(verb: string, keys: number | undefined, quiet: boolean): KeyProgress {
  if (quiet || !process.stderr.isTTY || keys === undefined || keys < LEAST_KEYS) return { one() {}, stop() {} };
  const bar = terminalBar(`${verb} {bar} {percentage}% · {value} of {total} keys · {eta_formatted} left`, 200);
  bar.start(keys, 0);
  return { one: () => bar.increment(), stop: () => bar.stop() };
}
