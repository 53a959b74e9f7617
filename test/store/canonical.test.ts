import test from 'ava';
import fc from 'fast-check';
import {
  auditKeyAad,
  canonicalKeyring,
  canonicalRecord,
  dekAad,
  kekAad,
  lp,
  recordMacAad,
  rootAad,
  slotKeyAad,
} from '../../dist/store/canonical.js';
import { newKeyring, newRecord } from './documents.js';
import { seeded } from './seed.js';

/** The documented encoding, written down a second time: what another language's reader would do. */
function decoded(bytes: Uint8Array): Buffer[] {
  const buffer = Buffer.from(bytes);
  const fields: Buffer[] = [];
  for (let at = 0; at < buffer.length; ) {
    const length = buffer.readUInt32BE(at);
    fields.push(buffer.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return fields;
}

const texts = (bytes: Uint8Array) => decoded(bytes).map((field) => field.toString('utf8'));
const raw = (bytes: Uint8Array) => Buffer.from(bytes).toString('utf8');

test('fields are written as four bytes of big-endian length and their bytes', (t) => {
  const bytes = lp(['añ', 7, new Uint8Array([0xff, 0x00]), '']);
  t.is(Buffer.from(bytes).toString('hex'), '0000000361c3b1000000013700000002ff0000000000');
});

test('no two different lists of fields encode alike', (t) => {
  const field = fc.oneof(fc.string({ unit: 'binary', maxLength: 6 }), fc.uint8Array({ maxLength: 6 }));
  const lists = fc.array(field, { maxLength: 5 });
  const plain = (list: Array<string | Uint8Array>) => list.map((item) => Buffer.from(item as string).toString('hex'));
  seeded(
    t,
    fc.property(lists, lists, (a, b) => {
      const alike = Buffer.compare(lp(a), lp(b)) === 0;
      return (
        alike === (JSON.stringify(plain(a)) === JSON.stringify(plain(b))) &&
        JSON.stringify(decoded(lp(a)).map((item) => item.toString('hex'))) === JSON.stringify(plain(a))
      );
    }),
  );
});

test('a number that is no safe integer is refused instead of encoded in a form no reader expects', (t) => {
  for (const number of [1.5, Number.NaN, 2 ** 53, 1e21]) t.throws(() => lp([number]), { code: 'INVALID_ARGUMENT' });
  t.is(texts(lp([2 ** 53 - 1]))[0], '9007199254740991');
});

test('the MAC of a record is over every field but itself, in the documented order', (t) => {
  const record = newRecord();
  t.deepEqual(texts(canonicalRecord(record)), [
    'progressdb-kms/record/v1',
    '1',
    record.storeId,
    record.keyId,
    record.threadId,
    'A256GCM',
    'active',
    '1',
    raw(record.wrapped),
    record.kekId,
    '1',
    '1024',
    record.createdAt,
    record.updatedAt,
    'uid:1000',
  ]);
});

test('a change of any field of a record changes what its MAC is over', (t) => {
  const record = newRecord();
  const before = Buffer.from(canonicalRecord(record)).toString('hex');
  for (const name of Object.keys(record) as Array<keyof typeof record>) {
    const value = record[name];
    const other =
      value instanceof Uint8Array ? new Uint8Array(value).fill(1) : typeof value === 'number' ? value + 1 : `${value}x`;
    const after = Buffer.from(canonicalRecord({ ...record, [name]: other })).toString('hex');
    t.is(after === before, name === 'mac', name);
  }
});

test('the digest of a keyring is over every slot, KEK and audit key with their counts, in the documented order', (t) => {
  const keyring = newKeyring(5);
  const [slot] = keyring.slots;
  const [kek] = keyring.keks;
  const [auditKey] = keyring.auditKeys;
  if (slot === undefined || kek === undefined || auditKey === undefined) return t.fail();
  const pending = { ...slot, kind: 'recovery' as const, state: 'pending' as const, expiresAt: '2026-02-07T12:00:00.000Z' };
  const document = { ...keyring, slots: [slot, pending], defaultKeyId: 'k_1' };
  const wrapping = [raw(slot.salt), raw(slot.root), raw(slot.slotKey), slot.createdAt];
  t.deepEqual(texts(canonicalKeyring(document)), [
    'progressdb-kms/keyring/v2',
    '2',
    keyring.storeId,
    '5',
    '2',
    ...[slot.slotId, 'master', 'active', '', ...wrapping],
    ...[slot.slotId, 'recovery', 'pending', '2026-02-07T12:00:00.000Z', ...wrapping],
    '1',
    kek.kekId,
    '1',
    'active',
    raw(kek.wrapped),
    '16384',
    kek.createdAt,
    raw(keyring.recordMac),
    '1',
    ...[raw(auditKey.publicKey), raw(auditKey.wrapped), auditKey.createdAt],
    'k_1',
  ]);
});

test('the digest of a keyring of format 1 leaves out what that format did not have', (t) => {
  const keyring = { ...newKeyring(5), format: 1 as const };
  const [slot] = keyring.slots;
  const [kek] = keyring.keks;
  if (slot === undefined || kek === undefined) return t.fail();
  t.deepEqual(texts(canonicalKeyring(keyring)), [
    'progressdb-kms/keyring/v1',
    '1',
    keyring.storeId,
    '5',
    '1',
    ...[slot.slotId, raw(slot.salt), raw(slot.root), raw(slot.slotKey), slot.createdAt],
    '1',
    ...[kek.kekId, '1', 'active', raw(kek.wrapped), '16384', kek.createdAt],
    '',
  ]);
});

test('wrapped keys are bound to the documented fields', (t) => {
  const record = newRecord({ kekVersion: 3 });
  const { storeId, keyId, threadId, createdAt, createdBy, kekId } = record;
  t.deepEqual(texts(dekAad(record)), [
    'progressdb-kms/dek/v1',
    storeId,
    keyId,
    threadId,
    'A256GCM',
    createdAt,
    createdBy,
    kekId,
    '3',
  ]);
  t.deepEqual(texts(kekAad(storeId, kekId, 2)), ['progressdb-kms/kek/v1', storeId, kekId, '2']);
  t.deepEqual(texts(rootAad(storeId, 's_1')), ['progressdb-kms/root/v1', storeId, 's_1']);
  t.deepEqual(texts(slotKeyAad(storeId, 's_1')), ['progressdb-kms/slot-key/v1', storeId, 's_1']);
  t.deepEqual(texts(recordMacAad(storeId)), ['progressdb-kms/record-mac-key/v1', storeId]);
  t.deepEqual(texts(auditKeyAad(storeId, Buffer.from('public'))), ['progressdb-kms/audit-key/v1', storeId, 'public']);
});
