import { readFileSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { connectKms } from '../../dist/client/index.js';
import type { EmbeddedKms } from '../../dist/create.js';
import { KmsError } from '../../dist/errors.js';
import { MAX_USES, SOFT_USES } from '../../dist/limits.js';
import { ChildDaemon } from './child.js';
import { embeddedOn, type Ground, newGround, recordFile, removeGround } from './ground.js';
import { writeUsesReserved } from './record-writer.js';

const MESSAGE = Buffer.from('one of the last');
const LAST_USES = 10;

/** A store with `count` keys that have `left` uses each. */
async function worn(t: ExecutionContext, count: number, left = LAST_USES): Promise<{ ground: Ground; keyIds: string[] }> {
  const ground = newGround();
  t.teardown(() => removeGround(ground));
  const kms = await embeddedOn(ground);
  const keyIds: string[] = [];
  for (let made = 0; made < count; made += 1) keyIds.push((await kms.createDek()).keyId);
  await kms.close();
  for (const keyId of keyIds) writeUsesReserved(ground, keyId, MAX_USES - left);
  return { ground, keyIds };
}

async function opened(t: ExecutionContext, ground: Ground): Promise<EmbeddedKms> {
  const kms = await embeddedOn(ground);
  t.teardown(() => kms.close());
  return kms;
}

const exhausted = { instanceOf: KmsError, code: 'KEY_EXHAUSTED' };

type Encrypt = (kms: EmbeddedKms, keyId: string) => Promise<Uint8Array> | Uint8Array;

const into = (encryptInto: (out: Uint8Array) => number) => {
  const out = new Uint8Array(64);
  return out.subarray(0, encryptInto(out));
};

const FORMS: Record<string, Encrypt> = {
  encryptWithDek: async (kms, keyId) => (await kms.encryptWithDek(keyId, MESSAGE)).ciphertext,
  encryptSync: (kms, keyId) => kms.encryptSync(keyId, MESSAGE),
  encryptInto: (kms, keyId) => into((out) => kms.encryptInto(keyId, MESSAGE, undefined, out)),
  'a resolved key': async (kms, keyId) => {
    const key = await kms.key(keyId);
    return into((out) => key.encryptInto(MESSAGE, undefined, out));
  },
};

for (const [name, encrypt] of Object.entries(FORMS)) {
  test(`the last uses of a key work by ${name}, then it is exhausted and still decrypts`, async (t) => {
    const { ground, keyIds } = await worn(t, 1);
    const [keyId] = keyIds as [string];
    const kms = await opened(t, ground);
    let last = new Uint8Array();
    for (let use = 0; use < LAST_USES; use += 1) last = new Uint8Array(await encrypt(kms, keyId));
    for (let again = 0; again < 3; again += 1) await t.throwsAsync(async () => encrypt(kms, keyId), exhausted);
    t.deepEqual(Buffer.from(await kms.decryptWithDek(keyId, last)), MESSAGE);
    t.is((await kms.describeKey(keyId)).usesReserved, MAX_USES);
  });
}

test('a batch that asks for more than the last uses is refused as exhausted', async (t) => {
  const { ground, keyIds } = await worn(t, 1);
  const kms = await opened(t, ground);
  await t.throwsAsync(kms.encryptMany(keyIds[0]!, Array(LAST_USES + 1).fill(MESSAGE)), exhausted);
});

test('a message for the pool is refused as exhausted too', async (t) => {
  const { ground, keyIds } = await worn(t, 1, 2);
  const kms = await opened(t, ground);
  const large = Buffer.alloc(300 * 1024);
  for (let use = 0; use < 2; use += 1) await kms.encryptWithDek(keyIds[0]!, large);
  await t.throwsAsync(kms.encryptWithDek(keyIds[0]!, large), exhausted);
});

test('the last uses of a key work through the socket, then it is exhausted and still decrypts', async (t) => {
  const { ground, keyIds } = await worn(t, 2);
  const [one, many] = keyIds as [string, string];
  const daemon = new ChildDaemon(ground);
  t.teardown(() => daemon.kill());
  await daemon.ready;
  const kms = await connectKms(ground.socket);
  t.teardown(() => kms.close());
  const asked = await Promise.allSettled(Array.from({ length: LAST_USES + 5 }, () => kms.encryptWithDek(one, MESSAGE)));
  const sealed = asked.flatMap((result) => (result.status === 'fulfilled' ? [result.value.ciphertext] : []));
  t.is(sealed.length, LAST_USES, 'not one more');
  for (const result of asked) if (result.status === 'rejected') t.is((result.reason as KmsError).code, 'KEY_EXHAUSTED');
  t.deepEqual(Buffer.from(await kms.decryptWithDek(one, sealed[0]!)), MESSAGE);

  const all = await kms.encryptMany(many, Array(LAST_USES).fill(MESSAGE));
  t.true(all.every((item) => item instanceof Uint8Array));
  const beyond = await kms.encryptMany(many, [MESSAGE]).then(
    (items) => (items[0] as KmsError).code,
    (error: KmsError) => error.code,
  );
  t.is(beyond, 'KEY_EXHAUSTED');
  t.deepEqual((await kms.health()).keysNearLimit.sort(), [one, many].sort());
  await kms.close();
  await daemon.stop();
  t.is(recordFile(ground, one).uses_reserved, MAX_USES);
});

test('the last uses that a clean stop gives back are there again, and no more', async (t) => {
  const { ground, keyIds } = await worn(t, 1);
  const [keyId] = keyIds as [string];
  const first = await embeddedOn(ground);
  for (let use = 0; use < 4; use += 1) first.encryptSync(keyId, MESSAGE);
  await first.close();
  t.is(recordFile(ground, keyId).uses_reserved, MAX_USES - LAST_USES + 4);
  const second = await opened(t, ground);
  for (let use = 4; use < LAST_USES; use += 1) second.encryptSync(keyId, MESSAGE);
  t.throws(() => second.encryptSync(keyId, MESSAGE), exhausted);
});

test('a key past the soft limit is reported, one below it is not, and both serve', async (t) => {
  const { ground, keyIds } = await worn(t, 3);
  const [near, below, spent] = keyIds as [string, string, string];
  writeUsesReserved(ground, near, SOFT_USES);
  writeUsesReserved(ground, below, SOFT_USES / 2);
  writeUsesReserved(ground, spent, MAX_USES);
  const kms = await opened(t, ground);
  t.deepEqual((await kms.health()).keysNearLimit, [], 'none was met yet');
  kms.encryptSync(near, MESSAGE);
  kms.encryptSync(below, MESSAGE);
  t.throws(() => kms.encryptSync(spent, MESSAGE), exhausted);
  const { status, keysNearLimit } = await kms.health();
  t.deepEqual(keysNearLimit, [near, spent], 'also the one that was spent before');
  t.is(status, 'ok', 'it is a warning');
});

test('an exhausted default key is succeeded, and what it encrypted still decrypts', async (t) => {
  const ground = newGround();
  t.teardown(() => removeGround(ground));
  const first = await embeddedOn(ground);
  const before = await first.encrypt(MESSAGE);
  const keyId = `k_${Buffer.from(before.subarray(1, 17)).toString('hex')}`;
  await first.close();
  writeUsesReserved(ground, keyId, MAX_USES);
  const kms = await opened(t, ground);
  const after = await kms.encrypt(MESSAGE);
  t.notDeepEqual(after.subarray(0, 17), before.subarray(0, 17), 'another key');
  t.deepEqual(Buffer.from(await kms.decrypt(after)), MESSAGE);
  t.deepEqual(Buffer.from(await kms.decrypt(before)), MESSAGE);
});

test('control: a use count that was edited without the key is not believed', async (t) => {
  const { ground, keyIds } = await worn(t, 1);
  const stranger = newGround();
  t.teardown(() => removeGround(stranger));
  // The writer with another master key cannot even open the slot; with the right one every test above was believed.
  t.throws(() => writeUsesReserved({ ...ground, keyFile: stranger.keyFile }, keyIds[0]!, 0));
  const path = `${ground.dataDir}/kms-deks/${keyIds[0]}.json`;
  writeFileSync(path, readFileSync(path, 'utf8').replace(`"uses_reserved":${MAX_USES - LAST_USES}`, '"uses_reserved":0'));
  t.is(recordFile(ground, keyIds[0]!).uses_reserved, 0);
  const kms = await opened(t, ground);
  t.throws(() => kms.encryptSync(keyIds[0]!, MESSAGE), { instanceOf: KmsError, code: 'STORE_UNAVAILABLE' });
});
