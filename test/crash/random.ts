import { randomInt } from 'node:crypto';

/** From TEST_SEED, or fresh: print it, so that a run can be had again. */
export function newSeed(): number {
  return Number(process.env['TEST_SEED'] ?? randomInt(2 ** 31));
}

/** Numbers in [0, 1) from a seed (mulberry32): which process is killed when must be repeatable, never secret. */
export function randomFrom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
