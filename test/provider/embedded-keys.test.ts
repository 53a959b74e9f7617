import { spawnSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { createEmbeddedKms, type EmbeddedKms } from '../../dist/create.js';
import { binding } from '../../dist/native.js';
import { bytes, PLAIN, same } from './methods.js';
import { refused } from './refused.js';
import { newPlace, openAt, openMemory, scratch } from './subjects.js';

function keyIdIn(sealed: Uint8Array): string {
  return `k_${Buffer.from(sealed.subarray(1, 17)).toString('hex')}`;
}

/** How long a loaded machine may take to make a key. */
const SUCCESSION_MS = 200_000;

/** Until `condition` holds; the test's own time-out ends it otherwise. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 20));
}

test('raw keys pass only where they were asked for', async (t) => {
  const kms = await openMemory(t);
  const raw = bytes(32);
  const given = new Uint8Array(raw);
  await refused(t, kms.wrapDek(given), 'UNSUPPORTED', /^raw keys need exposeRawKeys$/);
  t.true(same(given, raw), 'it was not taken, so it was not wiped');
  const { wrapped } = await kms.createDek();
  await refused(t, kms.unwrapDek(wrapped), 'UNSUPPORTED', /^raw keys need exposeRawKeys$/);
});

test('an imported raw key is wiped, serves like any other, and comes back by its wrapped blob', async (t) => {
  const kms = await openMemory(t, { exposeRawKeys: true });
  const raw = bytes(32);
  const given = new Uint8Array(raw);
  const { keyId, wrapped } = await kms.wrapDek(given);
  t.true(given.every((byte) => byte === 0));
  t.false(Buffer.from(wrapped).includes(Buffer.from(raw)));
  const { ciphertext } = await kms.encryptWithDek(keyId, PLAIN);
  t.true(same(await kms.decryptWithDek(keyId, ciphertext), PLAIN));
  t.true(same(await kms.unwrapDek(wrapped), raw));
  for (let i = 0; i < 40; i += 1) await kms.createDek();
  t.true(same(await kms.unwrapDek(wrapped), raw), 'among many');
  await refused(t, kms.unwrapDek(bytes(60)), 'KEY_NOT_FOUND');
  await kms.disableKey(keyId);
  await refused(t, kms.unwrapDek(wrapped), 'KEY_DISABLED');
  await kms.destroyKey(keyId);
  await refused(t, kms.unwrapDek(wrapped), 'KEY_NOT_FOUND');
});

test('only 32 bytes are a raw key', async (t) => {
  const kms = await openMemory(t, { exposeRawKeys: true });
  for (const length of [0, 16, 31, 33, 64]) await refused(t, kms.wrapDek(bytes(length)), 'INVALID_ARGUMENT', /32 bytes/);
  for (const wrong of ['a'.repeat(32), null, new Uint16Array(16)] as unknown as Uint8Array[]) {
    await refused(t, kms.wrapDek(wrong), 'INVALID_ARGUMENT', /^raw key/);
    await refused(t, kms.unwrapDek(wrong), 'INVALID_ARGUMENT', /^wrapped key/);
  }
  t.deepEqual((await kms.listKeys()).keys, []);
});

/** Encrypts well past the limit; if a successor is to come, which is made in the background, until it has. */
async function pastSoftLimit(t: ExecutionContext, kms: EmbeddedKms, isSucceeded: boolean): Promise<Set<string>> {
  const seen = new Set<string>();
  const sealed: Uint8Array[] = [];
  for (let i = 0; i < 4_000 && seen.size < 2; i += 1) {
    const one = await kms.encrypt(PLAIN);
    seen.add(keyIdIn(one));
    if (i % 100 === 0 || seen.size === 2) sealed.push(one);
    if (i % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  for (const until = Date.now() + SUCCESSION_MS; isSucceeded && seen.size < 2 && Date.now() < until; await delay(10)) {
    const one = await kms.encrypt(PLAIN);
    seen.add(keyIdIn(one));
    sealed.push(one);
  }
  for (const one of sealed) t.true(same(await kms.decrypt(one), PLAIN));
  return seen;
}

test('the default key is succeeded at its soft limit, and the successor is kept in the keyring', async (t) => {
  const place = newPlace(t);
  const kms = await openAt(t, place, { defaultKeySoftUses: 2_048 });
  const [first, second] = [...(await pastSoftLimit(t, kms, true))] as [string, string];
  t.truthy(second, 'a second key came');
  t.true((await kms.describeKey(first!)).usesReserved >= 2_048);
  await kms.close();
  const again = await openAt(t, place);
  t.is(keyIdIn(await again.encrypt(PLAIN)), second);
});

test('a default key below its soft limit stays, over restarts too', async (t) => {
  const place = newPlace(t);
  const kms = await openAt(t, place);
  const sealed = await kms.encrypt(PLAIN);
  t.is((await pastSoftLimit(t, kms, false)).size, 1);
  await kms.close();
  const again = await openAt(t, place);
  t.is(keyIdIn(await again.encrypt(PLAIN)), keyIdIn(sealed));
  t.true(same(await again.decrypt(sealed), PLAIN));
});

test('a seal wipes every key and an unseal reads the master key again', async (t) => {
  const place = newPlace(t);
  const before = binding.initialise(0, 0).used;
  const kms = await openAt(t, place);
  const sealed = await kms.encrypt(PLAIN);
  t.true(binding.arenaInfo().used > before || kms.cachedKeys > 0);
  await kms.seal();
  t.is(kms.cachedKeys, 0);
  t.true(kms.sealed);
  const master = readFileSync(place.masterKeyFile);
  writeFileSync(place.masterKeyFile, Buffer.from(bytes(32)).toString('hex'));
  await refused(t, kms.unseal(), 'UNAUTHENTICATED', /opens no slot/);
  t.true(kms.sealed, 'a wrong key leaves it sealed');
  writeFileSync(place.masterKeyFile, master);
  await kms.unseal();
  t.false(kms.sealed);
  t.true(same(await kms.decrypt(sealed), PLAIN));
  await t.notThrowsAsync(kms.unseal(), 'a second unseal is none');
});

test('a master key that was read once and is gone cannot be read again', async (t) => {
  const memory = await openMemory(t);
  await memory.seal();
  await refused(t, memory.unseal(), 'UNSUPPORTED', /not read from a file/);
  const place = newPlace(t);
  const fd = openSync(place.masterKeyFile, 'r');
  const kms = await createEmbeddedKms({ dataDir: place.dataDir, masterKeyFd: fd });
  t.teardown(() => kms.close());
  closeSync(fd);
  const sealed = await kms.encrypt(PLAIN);
  await kms.seal();
  await refused(t, kms.unseal(), 'UNSUPPORTED', /not read from a file/);
  await kms.close();
  await refused(t, kms.unseal(), 'SEALED', /closed/);
  t.true(same(await (await openAt(t, place)).decrypt(sealed), PLAIN), 'the same key by its file');
});

test('a master key that is given as bytes is wiped by the call, opens what its file opens, and cannot be read again', async (t) => {
  const place = newPlace(t);
  const bytes = Uint8Array.from(Buffer.from(readFileSync(place.masterKeyFile, 'utf8').trim(), 'hex'));
  t.true(bytes.some((byte) => byte !== 0));
  const kms = await createEmbeddedKms({ dataDir: place.dataDir, masterKeyBytes: bytes });
  t.teardown(() => kms.close());
  t.true(bytes.every((byte) => byte === 0));
  const sealed = await kms.encrypt(PLAIN);
  await kms.seal();
  await refused(t, kms.unseal(), 'UNSUPPORTED', /not read from a file/);
  await kms.close();
  t.true(same(await (await openAt(t, place)).decrypt(sealed), PLAIN), 'the same key by its file');
  const late = new Uint8Array(32).fill(7);
  await refused(
    t,
    createEmbeddedKms({ dataDir: place.dataDir, masterKeyFile: place.masterKeyFile, masterKeyBytes: late }),
    'INVALID_ARGUMENT',
    /one master key/,
  );
  t.true(
    late.every((byte) => byte === 0),
    'wiped although it was refused',
  );
  await refused(
    t,
    createEmbeddedKms({ dataDir: place.dataDir, masterKeyBytes: new Uint8Array(31) }),
    'INVALID_ARGUMENT',
    /32 bytes/,
  );
});

test('a key that is not used is wiped after its time, and comes back when it is wanted', async (t) => {
  const kms = await openAt(t, newPlace(t), { keyIdleMs: 1 });
  const { keyId } = await kms.createDek();
  const key = await kms.key(keyId);
  const sealed = key.encryptSync(PLAIN);
  t.is(kms.cachedKeys, 1);
  await until(() => kms.cachedKeys === 0);
  t.true(same(key.decryptSync(sealed), PLAIN));
  t.is(kms.cachedKeys, 1);
});

test('no more keys are kept than may be', async (t) => {
  const kms = await openMemory(t, { cachedKeys: 3 });
  const keys = await Promise.all(Array.from({ length: 10 }, () => kms.createDek()));
  t.is(kms.cachedKeys, 3);
  for (const { keyId } of keys) kms.encryptSync(keyId, PLAIN);
  t.is(kms.cachedKeys, 3);
});

test('a clean close returns the uses that were reserved and not used, and never those that were', async (t) => {
  const place = newPlace(t);
  const kms = await openAt(t, place);
  const { keyId } = await kms.createDek();
  for (let i = 0; i < 700; i += 1) kms.encryptSync(keyId, PLAIN);
  t.true((await kms.describeKey(keyId)).usesReserved >= 1_024);
  await kms.close();
  const { usesReserved } = await (await openAt(t, place)).describeKey(keyId);
  t.is(usesReserved, 700);
});

test('a data directory belongs to one provider, in this process and in any other', async (t) => {
  const place = newPlace(t);
  const { dataDir, masterKeyFile } = place;
  const kms = await openAt(t, place);
  await refused(t, createEmbeddedKms({ dataDir, masterKeyFile }), 'CONFLICT', /./);
  const program = `import { createEmbeddedKms } from ${JSON.stringify(new URL('../../dist/create.js', import.meta.url).href)};
    await createEmbeddedKms(${JSON.stringify({ dataDir, masterKeyFile })}).then((kms) => kms.close().then(() => console.log('opened')),
      (error) => console.log(error.code));`;
  const elsewhere = () => spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' }).stdout.trim();
  t.is(elsewhere(), 'CONFLICT');
  await kms.close();
  t.is(elsewhere(), 'opened', 'free again');
});

test('what was asked for wrongly is refused with the reason', async (t) => {
  const { dataDir, masterKeyFile } = newPlace(t);
  await refused(t, createEmbeddedKms({}), 'INVALID_ARGUMENT', /dataDir/);
  await refused(t, createEmbeddedKms({ dataDir }), 'INVALID_ARGUMENT', /masterKeyFile, masterKeyFd or masterKeyBytes/);
  await refused(
    t,
    createEmbeddedKms({ dataDir, masterKeyFile, masterKeyFd: 0 }),
    'INVALID_ARGUMENT',
    /masterKeyFile, masterKeyFd or masterKeyBytes/,
  );
  await refused(t, createEmbeddedKms({ dataDir, masterKeyFile, initialise: false }), 'STORE_UNAVAILABLE', /there is no/);
  await refused(
    t,
    createEmbeddedKms({ dataDir: scratch(t), masterKeyFile, initialise: false }),
    'STORE_UNAVAILABLE',
    /no keyring/,
  );
});
