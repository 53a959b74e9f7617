import type { RotationStatus } from '../provider.js';
import { terminalBar } from './terminal-bar.js';

/** Shows how far a rotation is, where somebody looks. */
export interface RotationProgress {
  show(status: RotationStatus): void;
  stop(): void;
}

const SILENT: RotationProgress = { show() {}, stop() {} };
const FORMAT = '{phase} {bar} {percentage}% · {value} of {total} keys · {rate} a second · {left} left';

export function rotationProgress(quiet: boolean): RotationProgress {
  if (quiet || !process.stderr.isTTY) return SILENT;
  const bar = terminalBar(FORMAT);
  return {
    show({ phase, total, done, keysPerSecond, secondsLeft }) {
      const left = secondsLeft === null ? 'an unknown time' : `${secondsLeft} s`;
      const shown = { phase: (phase ?? '').padEnd(6), rate: keysPerSecond, left };
      if (!bar.isActive) bar.start(total, done, shown);
      bar.setTotal(total);
      bar.update(done, shown);
    },
    stop: () => bar.stop(),
  };
}
