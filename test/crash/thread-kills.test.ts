import test, { type ExecutionContext } from 'ava';
import { newGround, removeGround } from './ground.js';
import { newSeed, randomFrom } from './random.js';
import { ThreadRounds } from './thread-rounds.js';

const MESSAGES = 1_500;
const KILLS = 3;
const PACE = { messagesPerSecond: 6_000, longestLifeMs: 700 };

async function begun(t: ExecutionContext): Promise<ThreadRounds> {
  const ground = newGround();
  t.teardown(() => removeGround(ground));
  const seed = newSeed();
  t.log(`TEST_SEED=${seed}`);
  return ThreadRounds.begin(ground, MESSAGES, PACE, randomFrom(seed));
}

async function ended(t: ExecutionContext, rounds: ThreadRounds): Promise<void> {
  await rounds.audit();
  t.log(JSON.stringify(rounds.figures));
  t.is(rounds.figures.kills, KILLS);
  t.true(rounds.figures.rotations > 0 && rounds.figures.listed > 0 && rounds.figures.answered > 0);
}

test.serial(
  'an application killed while a key is rotated, written and listed goes on with it, and no message is lost',
  async (t) => {
    const rounds = await begun(t);
    for (let round = 0; round < KILLS; round += 1) await rounds.application(true);
    await rounds.lastLife();
    await ended(t, rounds);
  },
);

test.serial(
  'a job outlives its daemon, killed again and again, and what is written meanwhile is stored or refused',
  async (t) => {
    const rounds = await begun(t);
    await rounds.daemons(KILLS, false);
    await ended(t, rounds);
  },
);
