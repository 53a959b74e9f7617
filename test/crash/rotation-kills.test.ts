import test from 'ava';
import { newGround, removeGround } from './ground.js';
import { newSeed, randomFrom } from './random.js';
import { RotationRounds } from './rotation-rounds.js';
import { CALLS, killedAt, withoutStrace } from './strace.js';

const KEYS = 20;
const ROUNDS = 4;
/** A rotation is short: a few kills may all miss it by chance. */
const MOST_ROUNDS = 20;
/** Of one kind on one thread, in the start and the first rotation of these keys. */
const MOST_CALLS = { fsync: 40, rename: 14, link: 12, unlink: 12, write: 120 } as const;

for (const [victim, store] of [
  ['daemon', 'files'],
  ['embedded', 'files'],
  ['daemon', 'lmdb'],
  ['embedded', 'lmdb'],
] as const) {
  test.serial(
    `a rotation of a ${victim} on ${store} killed at random under load finishes by itself, and no answer is lost`,
    async (t) => {
      const ground = newGround(store);
      t.teardown(() => removeGround(ground));
      const seed = newSeed();
      const rounds = await RotationRounds.begin(ground, KEYS, randomFrom(seed));
      for (let round = 0; round < ROUNDS || (rounds.figures.unfinished === 0 && round < MOST_ROUNDS); round += 1)
        await rounds[victim]();
      t.log(`seed ${seed}: ${JSON.stringify(rounds.figures)}`);
      t.true(rounds.figures.answered > ROUNDS && rounds.figures.unfinished > 0, 'the kills hit rotations under way');
    },
  );
}

test.serial('a daemon killed in a system call of a rotation under load goes on with it at the next start', async (t) => {
  const reason = withoutStrace();
  if (reason !== undefined) {
    t.log(`SKIPPED: ${reason}`);
    t.pass();
    return;
  }
  const ground = newGround();
  t.teardown(() => removeGround(ground));
  const seed = newSeed();
  const random = randomFrom(seed);
  const rounds = await RotationRounds.begin(ground, KEYS, random);
  for (const call of CALLS) await rounds.daemon(killedAt(call, 1 + Math.floor(random() * MOST_CALLS[call])));
  t.log(`seed ${seed}: ${JSON.stringify(rounds.figures)}`);
  t.is(rounds.figures.kills, CALLS.length);
});
