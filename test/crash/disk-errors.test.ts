import test from 'ava';
import { ALL_SCENARIOS } from './all-scenarios.js';
import { type Failing, failedAt } from './disk-errors.js';
import { IS_FULL } from './extent.js';
import { masterFiles } from './masters.js';
import { newSeed, randomFrom } from './random.js';

/** A sample takes one call by chance out of each run of so many: however short a scenario is, some of its calls fail. */
const RUN = IS_FULL ? 1 : 3;

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
        for (let first = 1, isOver = false; !isOver; first += RUN) {
          const nth = first + Math.floor(random() * RUN);
          const outcome = await failedAt(scenario, masters, nth, errno, random).catch((error) => {
            throw new Error(`${errno} at call ${nth} (seed ${seed}): ${error.message}`, { cause: error });
          });
          ({ isOver } = outcome);
          if (!isOver) tried += 1;
          if (outcome.told !== null) told += 1;
        }
        t.log(`seed ${seed}: ${tried} calls failed, ${told} latched the store or had it say that it is full`);
        t.true(tried > 2 && told > 0);
      },
    );
  }
}
