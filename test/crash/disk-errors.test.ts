import test from 'ava';
import { ALL_SCENARIOS } from './all-scenarios.js';
import { type Failing, failedAt } from './disk-errors.js';
import { IS_FULL } from './extent.js';
import { masterFiles } from './masters.js';
import { newSeed, randomFrom } from './random.js';

/** A sample takes each call with this chance. */
const SHARE = IS_FULL ? 1 : 0.35;

for (const errno of ['EIO', 'ENOSPC', 'EDQUOT'] as Failing[]) {
  for (const scenario of ALL_SCENARIOS) {
    test.serial(
      `${errno} at any call is refused, loses nothing, and what was under way goes on afterwards: ${scenario.name}`,
      async (t) => {
        const seed = newSeed();
        const random = randomFrom(seed);
        const masters = masterFiles(t);
        let tried = 0;
        let told = 0;
        const isOver = async (nth: number) => {
          const outcome = await failedAt(scenario, masters, nth, errno, random).catch((error) => {
            throw new Error(`${errno} at call ${nth} (seed ${seed}): ${error.message}`, { cause: error });
          });
          if (outcome.told !== null) told += 1;
          if (!outcome.isOver) tried += 1;
          return outcome.isOver;
        };
        const left: number[] = [];
        for (let nth = 1; ; nth += 1) {
          if (random() > SHARE) left.push(nth);
          else if (await isOver(nth)) break;
        }
        // A sample may by chance be too small, or have none that is told.
        for (const nth of left) {
          if ((tried > 2 && told > 0) || (await isOver(nth))) break;
        }
        t.log(`seed ${seed}: ${tried} calls failed, ${told} latched the store or had it say that it is full`);
        t.true(tried > 2 && told > 0);
      },
    );
  }
}
