import test from 'ava';
import { CreateRounds, type Victim } from './create-rounds.js';
import { newGround, removeGround } from './ground.js';
import { newSeed, randomFrom } from './random.js';

const ROUNDS = 4;
const WHOLE_EVERY = 2;

for (const victim of ['daemon', 'embedded'] as Victim[]) {
  test.serial(
    `every key that a killed ${victim} had acknowledged decrypts after the restart, and no record is partial`,
    async (t) => {
      const ground = newGround();
      t.teardown(() => removeGround(ground));
      const seed = newSeed();
      t.log(`seed ${seed}`);
      const rounds = new CreateRounds(ground, victim, randomFrom(seed));
      for (let round = 1; round <= ROUNDS; round += 1) await rounds.round(round % WHOLE_EVERY === 0);
      t.log(JSON.stringify(rounds.figures));
      t.true(rounds.figures.acknowledged > ROUNDS, 'the kills hit a busy process');
      t.true(rounds.figures.sealed > 0);
    },
  );
}
