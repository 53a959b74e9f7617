// `npm run test:crash`: the rounds of test/crash, many more of them. ROUNDS and TEST_SEED may be given in the environment.
import { CreateRounds } from '../dist-test/crash/create-rounds.js';
import { newGround, removeGround } from '../dist-test/crash/ground.js';
import { newSeed, randomFrom } from '../dist-test/crash/random.js';
import { UseRounds } from '../dist-test/crash/use-rounds.js';

const ROUNDS = Number(process.env.ROUNDS ?? 500);
const USE_ROUNDS = Math.ceil(ROUNDS / 2);
const WHOLE_EVERY = 50;

const seed = newSeed();
let passed = 0;
let failed = 0;

/** A failed round is told and the next one goes on: what it finds on the same data directory is told too. */
async function runRounds(name, rounds, round) {
  for (let number = 1; number <= rounds; number += 1) {
    try {
      await round(number);
      passed += 1;
    } catch (error) {
      failed += 1;
      process.stderr.write(`\n${name}, round ${number}: ${error.stack}\n`);
    }
    if (number % 10 === 0 || number === rounds) process.stderr.write(`\r${name}: ${number}/${rounds}`);
  }
  process.stderr.write('\n');
}

async function creates(victim) {
  const ground = newGround();
  const rounds = new CreateRounds(ground, victim, randomFrom(seed));
  await runRounds(`${victim} killed while it creates keys`, ROUNDS, (number) =>
    rounds.round(number % WHOLE_EVERY === 0 || number === ROUNDS),
  );
  const { acknowledged, sealed, untold, leftovers, early } = rounds.figures;
  console.log(
    `${victim}: ${ROUNDS} kills (${early} before it served), ${acknowledged} creates acknowledged and kept, ${sealed} of them had ` +
      `encrypted, ${untold} whole records nobody was told of, ${leftovers} temporary files found and removed`,
  );
  removeGround(ground);
}

async function uses() {
  const rounds = await UseRounds.begin(newGround(), randomFrom(seed));
  await runRounds('killed while it encrypts', USE_ROUNDS, () => rounds.round());
  const done = [...rounds.done.values()].reduce((sum, count) => sum + count, 0);
  const reserved = [...rounds.reserved().values()].reduce((sum, count) => sum + count, 0);
  console.log(`uses: ${USE_ROUNDS} kills, ${done} encryptions acknowledged, ${reserved} counted in the records`);
  removeGround(rounds.ground);
}

console.log(`seed ${seed} (TEST_SEED=${seed} chooses the same kills)`);
await creates('daemon');
await creates('embedded');
await uses();
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
