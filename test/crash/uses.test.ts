import test from 'ava';
import { connectKms } from '../../dist/client/index.js';
import { FIRST_USES } from '../../dist/limits.js';
import { ChildDaemon } from './child.js';
import { embeddedOn, newGround, removeGround, usesReserved } from './ground.js';
import { newSeed, randomFrom } from './random.js';
import { UseRounds, underCounted } from './use-rounds.js';

const ROUNDS = 6;
/** Below, at and beyond half of a block, where the next one is reserved in the background. */
const COUNTS = [0, 1, 513, 1_024, 1_700, 40_000];

async function killed(rounds: number, log: (line: string) => void): Promise<UseRounds> {
  const seed = newSeed();
  log(`seed ${seed}`);
  const uses = await UseRounds.begin(newGround(), randomFrom(seed));
  for (let round = 0; round < rounds; round += 1) await uses.round();
  return uses;
}

test.serial('no kill makes a record count fewer uses than were acknowledged, and a clean stop counts exactly', async (t) => {
  const uses = await killed(ROUNDS, (line) => t.log(line));
  t.teardown(() => removeGround(uses.ground));
  t.log(`acknowledged uses per key: ${[...uses.done.values()].join(', ')}`);
  t.true(Math.max(...uses.done.values()) > 4 * FIRST_USES, 'blocks were reserved again and again');

  const daemon = new ChildDaemon(uses.ground);
  t.teardown(() => daemon.kill());
  const before = uses.reserved();
  await daemon.ready;
  const remote = await connectKms(uses.ground.socket);
  for (const [index, keyId] of uses.keyIds.entries()) {
    for (let left = COUNTS[index]!; left > 0; left -= 1_024) {
      await remote.encryptMany(keyId, Array(Math.min(left, 1_024)).fill(Buffer.alloc(8)));
    }
  }
  await remote.close();
  await daemon.stop();
  const expected = uses.keyIds.map((keyId, index) => [keyId, before.get(keyId)! + COUNTS[index]!] as const);
  t.deepEqual(uses.reserved(), new Map(expected), 'of the daemon');

  const kms = await embeddedOn(uses.ground);
  for (const [index, keyId] of uses.keyIds.entries()) {
    for (let left = COUNTS[index]!; left > 0; left -= 1) kms.encryptSync(keyId, Buffer.alloc(8));
  }
  await kms.close();
  t.deepEqual(uses.reserved(), new Map(expected.map(([keyId, uses], index) => [keyId, uses + COUNTS[index]!])), 'of the process');
});

test('a clean stop while the next block is being reserved gives that block back too', async (t) => {
  const ground = newGround();
  t.teardown(() => removeGround(ground));
  let total = 0;
  let keyId = '';
  for (const count of [513, 600, 700, 2_000, 5_000]) {
    const kms = await embeddedOn(ground);
    if (keyId === '') ({ keyId } = await kms.createDek());
    for (let left = count; left > 0; left -= 1) kms.encryptSync(keyId, Buffer.alloc(8));
    total += count;
    await kms.close();
    t.deepEqual(usesReserved(ground, [keyId]), new Map([[keyId, total]]), `after ${count} more`);
  }
});

test.serial('control: a record that forgot one use is found', async (t) => {
  const uses = await killed(1, (line) => t.log(line));
  t.teardown(() => removeGround(uses.ground));
  const reserved = uses.reserved();
  t.deepEqual(underCounted(reserved, uses.done), []);
  const [victim] = uses.keyIds;
  // As a process that gives out uses without having written them leaves the record: one short of what was done.
  reserved.set(victim!, uses.done.get(victim!)! - 1);
  t.deepEqual(underCounted(reserved, uses.done), [victim]);
  reserved.delete(victim!);
  t.deepEqual(underCounted(reserved, uses.done), [victim], 'and a record that is gone');
});
