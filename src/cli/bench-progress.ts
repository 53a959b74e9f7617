import type { Step } from '../bench/progress.js';
import { terminalBar } from './terminal-bar.js';

/** Shows how far a measurement is, where somebody looks. */
export interface BenchProgress {
  show(step: Step): void;
  stop(): void;
}

export function benchProgress(quiet: boolean): BenchProgress {
  if (quiet || !process.stderr.isTTY) return { show() {}, stop() {} };
  const bar = terminalBar('measuring {bar} {percentage}% · {secondsLeft} s left · {what}');
  return {
    show({ done, total, ...shown }) {
      if (!bar.isActive) bar.start(total, done, shown);
      bar.update(done, shown);
    },
    stop: () => bar.stop(),
  };
}
