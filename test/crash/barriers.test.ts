import test, { type ExecutionContext } from 'ava';
import { ALL_SCENARIOS } from './all-scenarios.js';
import { BARRIERS, type Barrier, withoutBarrier } from './barriers.js';
import { Laboratory, Violation } from './laboratory.js';
import { masterFiles } from './masters.js';
import { newSeed, randomFrom } from './random.js';

const SHARES = { cut: [0, 0], kill: [0, 1], second: [1, 0] } as const;

/** What the first power cut finds broken without the barrier, undefined for nothing. */
async function broken(t: ExecutionContext, barrier: Barrier, seed: number): Promise<string | undefined> {
  const scenario = ALL_SCENARIOS.find(({ name }) => name === barrier.scenario);
  const [seconds, kills] = SHARES[barrier.by];
  const bounds = { cuts: 32, secondCuts: 8, seconds, kills };
  try {
    await new Laboratory(masterFiles(t), randomFrom(seed), bounds, withoutBarrier(barrier.isLost)).run(scenario!);
    return undefined;
  } catch (error) {
    if (error instanceof Violation) return error.message.split('\n')[0];
    throw error;
  }
}

for (const barrier of BARRIERS) {
  test.serial(`control: without the fsync ${barrier.name}, a power cut breaks a promise that the laboratory sees`, async (t) => {
    const seed = newSeed();
    const found = await broken(t, barrier, seed);
    t.log(`seed ${seed}: ${found}`);
    t.truthy(found);
  });
}
