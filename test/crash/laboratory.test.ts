import test from 'ava';
import { ALL_SCENARIOS } from './all-scenarios.js';
import { IS_FULL } from './extent.js';
import { type Bounds, Laboratory } from './laboratory.js';
import { masterFiles } from './masters.js';
import { newSeed, randomFrom } from './random.js';

const BOUNDS: Bounds = IS_FULL
  ? { cuts: 512, secondCuts: 12, seconds: 0.2, kills: 0.3 }
  : { cuts: 16, secondCuts: 3, seconds: 0.02, kills: 0.05 };

for (const scenario of ALL_SCENARIOS) {
  test.serial(`no power cut, and no second one in the recovery, breaks a promise: ${scenario.name}`, async (t) => {
    const seed = newSeed();
    const laboratory = new Laboratory(masterFiles(t), randomFrom(seed), BOUNDS);
    await laboratory.run(scenario);
    const { instants, first, second } = laboratory.figures;
    t.log(`seed ${seed}: ${instants} instants, ${first} stores after one cut, ${second} after two`);
    t.true(instants > 10 && first > 10 && (second > 10 || !IS_FULL));
  });
}
