import { chmodSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import type { KmsClient } from '../../dist/client/kms-client.js';
import type { EmbeddedKms } from '../../dist/create.js';
import { FIRST_USES, MAX_USES } from '../../dist/limits.js';
import type { Provider } from '../../dist/provider.js';
import { copy, type RecordJson, readJson, recordPath, rewriteRecord, writeJson } from './edited.js';
import { bytes, MESSAGE_CALLS, PLAIN, RECORD_CALLS, same } from './methods.js';
import { refused, refusedSync } from './refused.js';
import { newPlace, openAt, type Place, served } from './subjects.js';

interface Filled extends Place {
  /** The one that gets damaged, and two beside it. */
  keyId: string;
  others: string[];
  ciphertexts: Map<string, Uint8Array>;
  saved: string;
}

async function filled(t: ExecutionContext): Promise<Filled> {
  const place = newPlace(t);
  const kms = await openAt(t, place);
  const ciphertexts = new Map<string, Uint8Array>();
  for (const thread of ['a', 'b', 'c']) {
    const { keyId } = await kms.createDekForThread(thread);
    ciphertexts.set(keyId, (await kms.encryptWithDek(keyId, PLAIN)).ciphertext);
  }
  await kms.close();
  const [keyId, ...others] = [...ciphertexts.keys()] as [string, string, string];
  const saved = `${place.directory}/record.saved`;
  copy(recordPath(place, keyId), saved);
  return { ...place, keyId, others, ciphertexts, saved };
}

function damage(reason: RegExp): RegExp {
  return new RegExp(`^the record of k_[0-9a-f]{32} is damaged: .*${reason.source}`);
}

async function othersServe(t: ExecutionContext, provider: Provider, place: Filled): Promise<void> {
  for (const keyId of place.others) {
    t.true(same(await provider.decryptWithDek(keyId, place.ciphertexts.get(keyId)!), PLAIN), 'the others keep serving');
    await t.notThrowsAsync(provider.encryptWithDek(keyId, PLAIN));
  }
}

/** Every use of the key fails with the reason, health names it, the others serve; put right, it serves again. */
async function setAside(t: ExecutionContext, provider: EmbeddedKms | KmsClient, place: Filled, reason: RegExp): Promise<void> {
  const { keyId } = place;
  const made = { keyId, ciphertext: place.ciphertexts.get(keyId)!, sealed: PLAIN };
  for (const [call, run] of [...MESSAGE_CALLS, ...RECORD_CALLS]) {
    await refused(t, run(provider, made), 'STORE_UNAVAILABLE', damage(reason), call);
  }
  await othersServe(t, provider, place);
  const health = await provider.health();
  t.is(health.status, 'degraded');
  t.deepEqual(
    health.damagedRecords.map((record) => record.keyId),
    [keyId],
  );
  t.regex(health.damagedRecords[0]!.reason, reason);
  t.deepEqual(
    (await provider.listKeys()).keys.map((key) => key.keyId),
    [...place.others].sort(),
    'it is not listed',
  );
  rmSync(recordPath(place, keyId));
  copy(place.saved, recordPath(place, keyId));
  t.true(same(await provider.decryptWithDek(keyId, made.ciphertext), PLAIN), 'mended, it serves');
  const after = await provider.health();
  t.is(after.status, 'ok');
  t.deepEqual(after.damagedRecords, []);
}

async function setAsideBlocking(t: ExecutionContext, kms: EmbeddedKms, place: Filled, reason: RegExp): Promise<void> {
  const out = Buffer.alloc(100);
  refusedSync(t, () => kms.encryptSync(place.keyId, PLAIN), 'STORE_UNAVAILABLE', damage(reason));
  refusedSync(t, () => kms.encryptInto(place.keyId, PLAIN, undefined, out), 'STORE_UNAVAILABLE', damage(reason));
  await refused(t, kms.key(place.keyId), 'STORE_UNAVAILABLE', damage(reason));
}

type Break = (path: string, record: RecordJson, place: Filled) => void;
const flip: (at: number) => Break = (at) => (path, record) => {
  const text = Buffer.from(JSON.stringify(record));
  text[at]! ^= 2;
  writeFileSync(path, text);
};

const MAC = /its authentication code does not match/;
const breaks: Array<[what: string, breakIt: Break, reason: RegExp]> = [
  ['with a flipped byte at its beginning', flip(0), /./],
  ['with a flipped byte in a name', flip(4), /./],
  ['with a flipped byte at its end', (path, record) => flip(JSON.stringify(record).length - 1)(path, record, {} as Filled), /./],
  ['cut short', (path) => truncateSync(path, 200), /./],
  ['empty', (path) => truncateSync(path, 0), /./],
  ['no JSON', (path) => writeFileSync(path, 'a record'), /./],
  ['larger than a record can be', (path) => writeFileSync(path, Buffer.alloc(4_097, ' ')), /./],
  ['with a member too many', (path, record) => writeJson(path, { ...record, more: 1 }), /./],
  ['of a newer format', (path, record) => writeJson(path, { ...record, format: 2 }), /format/],
  [
    'swapped with another one',
    (path, _record, place) => copy(recordPath(place, place.others[0]!), path),
    /swapped|it is the record of k_/,
  ],
];

/** Every member of KeyMeta, each with a value that its rule allows. */
const edits: Array<Partial<RecordJson>> = [
  { store_id: '0'.repeat(32) },
  { thread_id: 'another' },
  { thread_id: '' },
  { state: 'disabled' },
  { state: 'destroyed', wrapped: '' },
  { version: 9 },
  { wrapped: Buffer.alloc(60, 7).toString('base64') },
  { kek_id: `kek_${'0'.repeat(32)}` },
  { kek_version: 2 },
  { uses_reserved: 0 },
  { created_at: '2020-01-01T00:00:00.000Z' },
  { updated_at: '2020-01-01T00:00:00.000Z' },
  { created_by: 'uid:4711' },
  { mac: Buffer.alloc(32, 7).toString('base64') },
];
for (const edit of edits) {
  const member = Object.keys(edit)[0]!;
  const what = `whose ${member} was edited (${JSON.stringify(edit)})`;
  breaks.push([what, (path, record) => writeJson(path, { ...record, ...edit }), member === 'store_id' ? /another store/ : MAC]);
}

for (const [what, breakIt, reason] of breaks) {
  test(`a record ${what} is set aside, and the others keep serving`, async (t) => {
    const place = await filled(t);
    breakIt(recordPath(place, place.keyId), readJson(place.saved), place);
    const kms = await openAt(t, place);
    await setAsideBlocking(t, kms, place, reason);
    await setAside(t, kms, place, reason);
  });
}

test('a record whose algorithm or name is another one is set aside', async (t) => {
  for (const edit of [{ alg: 'A128GCM' }, { key_id: 'k_other' }, { state: 'sleeping' }, { created_by: '' }]) {
    const place = await filled(t);
    writeJson(recordPath(place, place.keyId), { ...readJson<RecordJson>(place.saved), ...edit });
    await setAside(t, await openAt(t, place), place, /./);
  }
});

test('a record of another store is not taken for one of this', async (t) => {
  const [place, other] = [await filled(t), await filled(t)];
  const record = readJson<RecordJson>(recordPath(other, other.keyId));
  const kms = await openAt(t, place);
  copy(recordPath(other, other.keyId), recordPath(place, other.keyId));
  await refused(t, kms.encryptWithDek(other.keyId, PLAIN), 'STORE_UNAVAILABLE', damage(/it belongs to another store/));
  writeJson(recordPath(place, other.keyId), { ...record, store_id: readJson<RecordJson>(place.saved).store_id });
  await refused(t, kms.encryptWithDek(other.keyId, PLAIN), 'STORE_UNAVAILABLE', damage(MAC));
  await othersServe(t, kms, place);
});

test('a record with the authentication code of another store is tampered with', async (t) => {
  const [place, other] = [await filled(t), await filled(t)];
  rewriteRecord(place, place.keyId, { uses_reserved: 5_000 }, other);
  await setAside(t, await openAt(t, place), place, MAC);
});

test('a wrapped key pasted onto another record does not open, whatever its authentication code says', async (t) => {
  const place = await filled(t);
  rewriteRecord(place, place.keyId, { wrapped: readJson<RecordJson>(recordPath(place, place.others[0]!)).wrapped });
  const kms = await openAt(t, place);
  const { keyId } = place;
  for (const [call, run] of MESSAGE_CALLS) {
    const made = { keyId, ciphertext: place.ciphertexts.get(keyId)!, sealed: PLAIN };
    await refused(t, run(kms, made), 'STORE_UNAVAILABLE', damage(/its wrapped key does not open/), call);
  }
  refusedSync(t, () => kms.encryptSync(keyId, PLAIN), 'STORE_UNAVAILABLE', damage(/its wrapped key does not open/));
  t.deepEqual((await kms.health()).damagedRecords, [{ keyId, reason: 'its wrapped key does not open' }]);
  await othersServe(t, kms, place);
});

for (const member of ['thread_id', 'created_at', 'created_by', 'kek_version'] as const) {
  test(`a wrapped key does not open for another ${member}, whatever the authentication code says`, async (t) => {
    const place = await filled(t);
    const other = { thread_id: 'b', created_at: '2020-01-01T00:00:00.000Z', created_by: 'uid:1', kek_version: 2 }[member];
    rewriteRecord(place, place.keyId, { [member]: other });
    const kms = await openAt(t, place);
    await refused(t, kms.encryptWithDek(place.keyId, PLAIN), 'STORE_UNAVAILABLE', damage(/its wrapped key does not open/));
    await othersServe(t, kms, place);
  });
}

test('a record that names a KEK which is gone says so', async (t) => {
  const place = await filled(t);
  rewriteRecord(place, place.keyId, { kek_id: `kek_${'0'.repeat(32)}` });
  const kms = await openAt(t, place);
  await refused(t, kms.encryptWithDek(place.keyId, PLAIN), 'STORE_UNAVAILABLE', /KEK that the keyring does not hold/);
  await othersServe(t, kms, place);
});

test('the test writes records as the service does', async (t) => {
  const place = await filled(t);
  rewriteRecord(place, place.keyId, { uses_reserved: 5_000 });
  const kms = await openAt(t, place);
  t.is((await kms.describeKey(place.keyId)).usesReserved, 5_000);
  t.true(same(await kms.decryptWithDek(place.keyId, place.ciphertexts.get(place.keyId)!), PLAIN));
});

test('a record that is a link is not followed', async (t) => {
  const place = await filled(t);
  const path = recordPath(place, place.keyId);
  rmSync(path);
  symlinkSync(place.saved, path);
  const kms = await openAt(t, place);
  await refused(t, kms.encryptWithDek(place.keyId, PLAIN), 'STORE_UNAVAILABLE', /./);
  await othersServe(t, kms, place);
});

test('a daemon sets a damaged record aside in the same way', async (t) => {
  const place = await filled(t);
  writeJson(recordPath(place, place.keyId), { ...readJson<RecordJson>(place.saved), uses_reserved: 0 });
  const { client } = await served(t, place);
  await setAside(t, client, place, MAC);
});

test('a key at the end of its uses encrypts no more and decrypts on', async (t) => {
  const place = await filled(t);
  const { keyId } = place;
  const ciphertext = place.ciphertexts.get(keyId)!;
  rewriteRecord(place, keyId, { uses_reserved: MAX_USES });
  const kms = await openAt(t, place);
  const out = Buffer.alloc(100);
  await refused(t, kms.encryptWithDek(keyId, PLAIN), 'KEY_EXHAUSTED');
  await refused(t, kms.encryptMany(keyId, [PLAIN, PLAIN]), 'KEY_EXHAUSTED');
  await refused(t, kms.encryptWithDek(keyId, bytes(300_000)), 'KEY_EXHAUSTED');
  refusedSync(t, () => kms.encryptSync(keyId, PLAIN), 'KEY_EXHAUSTED');
  refusedSync(t, () => kms.encryptInto(keyId, PLAIN, undefined, out), 'KEY_EXHAUSTED');
  t.true(same(await kms.decryptWithDek(keyId, ciphertext), PLAIN));
  t.deepEqual((await kms.health()).keysNearLimit, [keyId]);
  await kms.close();
  const { client } = await served(t, place);
  await refused(t, client.encryptWithDek(keyId, PLAIN), 'KEY_EXHAUSTED');
  await refused(t, client.encryptMany(keyId, [PLAIN, PLAIN]), 'KEY_EXHAUSTED');
  await refused(t, client.encryptWithDek(keyId, bytes(300_000)), 'KEY_EXHAUSTED');
  t.true(same(await client.decryptWithDek(keyId, ciphertext), PLAIN));
  t.deepEqual((await client.health()).keysNearLimit, [keyId]);
});

test('the last uses of a key are all there, and not one more', async (t) => {
  const place = await filled(t);
  rewriteRecord(place, place.keyId, { uses_reserved: MAX_USES - FIRST_USES });
  const kms = await openAt(t, place);
  let done = 0;
  const error = t.throws(() => {
    for (; done <= FIRST_USES; done += 1) kms.encryptSync(place.keyId, PLAIN);
  });
  t.is((error as { code?: string }).code, 'KEY_EXHAUSTED');
  t.is(done, FIRST_USES);
  t.is((await kms.describeKey(place.keyId)).usesReserved, MAX_USES);
});

test('a default key at the end of its uses is succeeded', async (t) => {
  const place = newPlace(t);
  const kms = await openAt(t, place);
  const sealed = await kms.encrypt(PLAIN);
  await kms.close();
  rewriteRecord(place, `k_${Buffer.from(sealed.subarray(1, 17)).toString('hex')}`, { uses_reserved: MAX_USES });
  const again = await openAt(t, place);
  const next = await again.encrypt(PLAIN);
  t.false(same(next.subarray(0, 17), sealed.subarray(0, 17)));
  t.true(same(await again.decrypt(sealed), PLAIN));
  t.true(same(await again.decrypt(next), PLAIN));
});

test('files that others may reach are refused with the command that mends them', async (t) => {
  const place = await filled(t);
  chmodSync(place.dataDir, 0o755);
  await refused(t, openAt(t, place), 'PERMISSION_DENIED', /chmod/);
  chmodSync(place.dataDir, 0o700);
  chmodSync(`${place.dataDir}/keyring.json`, 0o644);
  await refused(t, openAt(t, place), 'PERMISSION_DENIED', /chmod/);
  chmodSync(`${place.dataDir}/keyring.json`, 0o600);
  await othersServe(t, await openAt(t, place), place);
});
