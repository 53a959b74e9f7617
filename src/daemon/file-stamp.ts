import type { BigIntStats } from 'node:fs';

/** File times advance in clock ticks (10 ms at most): a file changed so recently may change again and look the same. */
const SETTLED_MS = 1_000;

/** Every change of a file changes one of these, and a chmod the last. */
export function stampOf(stats: BigIntStats | undefined): string {
  return stats === undefined ? 'none' : [stats.dev, stats.ino, stats.size, stats.mtimeNs, stats.ctimeNs].join();
}

/** Whether a file that changes after `now`, in milliseconds since 1970, will have another stamp. */
export function isSettled(stats: BigIntStats | undefined, now: number): boolean {
  return stats === undefined || Number(stats.ctimeMs) + SETTLED_MS < now;
}
