import { KmsError } from '../errors.js';
import type { Provider } from '../provider.js';
import { REAL_CLOCK } from './clock.js';
import { closedLoop } from './closed-loop.js';
import { Latencies } from './latencies.js';
import { openLoop } from './open-loop.js';
import type { Block, Pace, Rotated } from './questions.js';
import type { KeyMaker } from './sealer.js';
import type { Tell } from './worker-side.js';

/** Keys that are made at once: many share a sync of the directory. */
const MADE_AT_ONCE = 64;
const TOLD_EACH = 1_000;

/** Blocks of one kind, whose latencies are added up. */
export class Blocks {
  private readonly pooled = new Latencies();
  private readonly delays = new Latencies();

  /** `work` gets what to record into. */
  async measure(
    work: (latencies: Latencies, delays: Latencies) => Promise<{ operations: number; seconds: number; unsent?: number }>,
    verify: () => Promise<number>,
  ): Promise<Block> {
    globalThis.gc?.();
    const latencies = new Latencies();
    const before = process.cpuUsage();
    const { operations, seconds, unsent = 0 } = await work(latencies, this.delays);
    const { user, system } = process.cpuUsage(before);
    this.pooled.add(latencies);
    const verified = await verify();
    const cpuNs = (user + system) * 1e3;
    return {
      operations,
      seconds,
      unsent,
      cpuNs,
      verified,
      latency: latencies.percentiles,
      pooled: this.pooled.percentiles,
      delays: this.delays.percentiles,
    };
  }
}

/** Open with a rate, closed without. */
export function paced(pace: Pace, operate: (index: number) => Promise<void>) {
  const { rate } = pace;
  return (latencies: Latencies, delays: Latencies) =>
    rate === undefined
      ? closedLoop(pace, operate, latencies, REAL_CLOCK)
      : openLoop({ ...pace, rate }, operate, latencies, REAL_CLOCK, delays);
}

export async function makeKeys(kms: KeyMaker, count: number, tell: Tell): Promise<string[]> {
  const made: string[] = [];
  let begun = 0;
  const lane = async () => {
    while (begun < count) {
      begun++;
      made.push((await kms.createDek()).keyId);
      if (made.length % TOLD_EACH === 0) {
        tell(made.length);
        // Where all of it is in memory nothing else would be heard meanwhile.
        await new Promise((done) => setImmediate(done));
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(count, MADE_AT_ONCE) }, lane));
  return made;
}

export async function rotate(kms: Pick<Provider, 'rotateKek'>, deadlineMs: number): Promise<Rotated> {
  const began = performance.now();
  const { state, total, error } = await kms.rotateKek({ wait: true, deadlineMs });
  if (state !== 'idle') throw new KmsError('INTERNAL', `the rotation is ${state}: ${error ?? 'no reason is given'}`);
  return { keys: total, seconds: (performance.now() - began) / 1e3 };
}
