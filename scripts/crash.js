// `npm run test:crash`: what `npm test` takes samples of, in full: kills, power cuts, failing disks. ROUNDS (500; of threads 20), KEYS (500),
// MESSAGES (100,000) and TEST_SEED may be given in the environment, and the parts to run as arguments.
import { spawnSync } from 'node:child_process';
import { CreateRounds } from '../dist-test/crash/create-rounds.js';
import { DiskImage } from '../dist-test/crash/disk-image.js';
import { newGround, removeGround } from '../dist-test/crash/ground.js';
import { ImageRounds } from '../dist-test/crash/image-rounds.js';
import { newSeed, randomFrom } from '../dist-test/crash/random.js';
import { RotationRounds } from '../dist-test/crash/rotation-rounds.js';
import { CALLS, killedAt, withoutStrace } from '../dist-test/crash/strace.js';
import { ThreadRounds } from '../dist-test/crash/thread-rounds.js';
import { UseRounds } from '../dist-test/crash/use-rounds.js';
import { PostgresServer } from '../dist-test/postgres-server.js';
import { TwoDaemons } from '../dist-test/shared/two-daemons.js';

const ROUNDS = Number(process.env.ROUNDS ?? 500);
const KEYS = Number(process.env.KEYS ?? 500);
const MESSAGES = Number(process.env.MESSAGES ?? 100_000);
const THREAD_ROUNDS = Number(process.env.ROUNDS ?? 20);
// A rotation of them all outlives several of the lives between kills.
const THREAD_PACE = { messagesPerSecond: MESSAGES / 5, longestLifeMs: 2_000 };
const USE_ROUNDS = Math.ceil(ROUNDS / 2);
const ROTATION_ROUNDS = Math.ceil(ROUNDS * 0.6);
const CALL_ROUNDS = Math.ceil(ROUNDS / 5);
const IMAGE_CUTS = Math.ceil(ROUNDS / 5);
const AUDIT_ROUNDS = ROUNDS * 2;
const POSTGRES_ROUNDS = Math.ceil(ROUNDS / 5);
const KEYS_SHARED = 50;
const WHOLE_EVERY = 50;
// A round verifies the keys and the log of all rounds before it on its data directory; a fresh one keeps rounds short.
const ROUNDS_A_GROUND = 50;
const IMAGE_MEGABYTES = 256;

const seed = newSeed();
let passed = 0;
let failed = 0;

/** A failed round is told and the next one goes on: what it finds on the same data directory is told too. */
async function runRounds(name, rounds, round, first = 1, last = rounds) {
  for (let number = first; number <= last; number += 1) {
    try {
      await round(number);
      passed += 1;
    } catch (error) {
      failed += 1;
      process.stderr.write(`\n${name}, round ${number}: ${error.stack}\n`);
    }
    if (number % 10 === 0 || number === rounds) process.stderr.write(`\r${name}: ${number}/${rounds}`);
  }
  if (last === rounds) process.stderr.write('\n');
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

/** Kills under load in rotations of so many keys; each also looks for the audit line of every operation that was answered. */
async function rotations(name, keys, count, round) {
  const random = randomFrom(seed);
  const told = { kills: 0, early: 0, unfinished: 0, answered: 0, lines: 0 };
  for (let first = 1; first <= count; first += ROUNDS_A_GROUND) {
    const ground = newGround();
    const rounds = await RotationRounds.begin(ground, keys, random);
    await runRounds(name, count, (number) => round(rounds, number), first, Math.min(count, first + ROUNDS_A_GROUND - 1));
    for (const figure of Object.keys(told)) told[figure] += rounds.figures[figure];
    removeGround(ground);
  }
  console.log(
    `${name}: ${told.kills} kills (${told.early} before it served), ${told.unfinished} rotations finished by the next start, ` +
      `${told.answered} operations answered and kept, ${told.lines} audit lines promised and there`,
  );
}

const byTurns = (rounds, number) => (number % 2 === 0 ? rounds.daemon() : rounds.embedded());

async function calls() {
  const reason = withoutStrace();
  if (reason !== undefined) return console.log(`SKIPPED: kills at system calls: ${reason}`);
  const random = randomFrom(seed);
  // Evenly over the first rotation of the keys, from the start on; each key takes one or two of most calls, four threads share them.
  await rotations('killed in a system call of a rotation', KEYS, CALL_ROUNDS, (rounds, number) => {
    const call = CALLS[number % CALLS.length];
    return rounds.daemon(killedAt(call, 1 + Math.floor(random() * KEYS)));
  });
}

async function images() {
  const ground = newGround();
  let image;
  try {
    image = DiskImage.make(ground.directory, IMAGE_MEGABYTES);
  } catch (error) {
    console.log(`SKIPPED: power cuts on ext4: ${error.message}`);
    return removeGround(ground);
  }
  try {
    let load;
    await runRounds('power cuts on ext4', 1, async () => {
      load = await new ImageRounds(image, ground, randomFrom(seed)).daemon(IMAGE_CUTS);
    });
    console.log(`ext4: ${IMAGE_CUTS} power cuts, ${load?.answered} operations answered, ${load?.rotations} rotations`);
  } finally {
    image.remove();
    removeGround(ground);
  }
}

async function threads(victim, live) {
  const ground = newGround();
  const random = randomFrom(seed);
  const name = `${victim} killed while a key is rotated under ${MESSAGES} messages`;
  let figures;
  await runRounds(name, 1, async () => {
    const rounds = await ThreadRounds.begin(ground, MESSAGES, THREAD_PACE, random);
    ({ figures } = rounds);
    await live(rounds, random);
    await rounds.audit();
  });
  const phases = Object.entries(figures?.phases ?? {}).map(([phase, kills]) => `${kills} in ${phase}`);
  console.log(
    `${name}: ${figures?.kills} kills (${phases.join(', ')}), ${figures?.rotations} rotations ended, ${figures?.answered} writes ` +
      `answered and kept, ${figures?.refused} refused and not there, ${figures?.listed} messages listed, ${figures?.entries} entries ` +
      'read, each sealed once under the new key; put back, rotated and purged',
  );
  removeGround(ground);
}

async function applications(rounds, random) {
  for (let round = 0; round < THREAD_ROUNDS; round += 1) await rounds.application(random() < 0.5);
  await rounds.lastLife();
}

/** Two daemons on one database: one of them is killed, or the database, in turn. */
async function postgres() {
  const server = PostgresServer.start();
  if (typeof server === 'string') return console.log(`SKIPPED: two daemons on one PostgreSQL: ${server}`);
  const told = { kills: 0, takenOver: 0, restarts: 0, answered: 0, rotations: 0 };
  const random = randomFrom(seed);
  const name = 'two daemons on one PostgreSQL';
  for (let first = 1; first <= POSTGRES_ROUNDS; first += ROUNDS_A_GROUND) {
    const daemons = new TwoDaemons(server, `rounds_${first}`, random);
    await daemons.begin(KEYS_SHARED);
    const round = (number) => (number % 3 === 0 ? daemons.restart() : daemons.kill());
    await runRounds(name, POSTGRES_ROUNDS, round, first, Math.min(POSTGRES_ROUNDS, first + ROUNDS_A_GROUND - 1));
    for (const figure of Object.keys(told)) told[figure] += daemons.figures[figure];
    daemons.end();
  }
  server.stop();
  console.log(
    `${name}: ${told.kills} daemons killed (${told.takenOver} times a rotation was taken over), ${told.restarts} times the database, ` +
      `${told.answered} operations answered and kept, ${told.rotations} rotations begun`,
  );
}

/** The tests that take samples, without bounds. */
function simulated() {
  const tests = [
    'laboratory',
    'barriers',
    'disk-errors',
    'restore-cuts',
    'token-cuts',
    'crash-points',
    'token-crash-points',
    'backup-crash-points',
  ];
  const files = tests.map((name) => `test/crash/${name}.test.ts`);
  const env = { ...process.env, CRASH_FULL: '1' };
  const { stdout } = spawnSync('npx', ['ava', '--timeout=120m', ...files], { env, encoding: 'utf8', maxBuffer: 2 ** 26 });
  process.stdout.write(stdout);
  const count = (what) => Number(new RegExp(`(\\d+) tests? ${what}`).exec(stdout)?.[1] ?? 0);
  passed += count('passed');
  failed += count('failed');
  if (count('passed') === 0) failed += 1;
}

const PARTS = {
  simulated,
  rotations: () => rotations('killed in rotations under load', KEYS, ROTATION_ROUNDS, byTurns),
  calls,
  images,
  audit: () => rotations('killed between answers and audit lines', 5, AUDIT_ROUNDS, byTurns),
  daemon: () => creates('daemon'),
  embedded: () => creates('embedded'),
  uses,
  postgres,
  threads: async () => {
    await threads('application', applications);
    await threads('daemon', (rounds) => rounds.daemons(THREAD_ROUNDS, true));
  },
};

console.log(`seed ${seed} (TEST_SEED=${seed} chooses the same kills)`);
const names = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(PARTS);
for (const name of names) await PARTS[name]();
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
