import test from 'ava';
import fc from 'fast-check';
import { KmsError } from '../../dist/errors.js';
import { MAX_PACKED_BYTES, MAX_USES } from '../../dist/limits.js';
import { binding } from '../../dist/native.js';
import { canonicalRecord } from '../../dist/store/canonical.js';
import { recordJson } from '../../dist/store/document-json.js';
import { DamagedDocument, type KeyMeta } from '../../dist/store/key-store.js';
import { packed, unpacked } from '../../dist/store/packed.js';
import { newRecord, plain } from './documents.js';
import { seeded } from './seed.js';

const DESTROYED = { state: 'destroyed', wrapped: new Uint8Array(0) } as const;
const LONGEST: Partial<KeyMeta> = {
  keyId: `k_${'z'.repeat(64)}`,
  threadId: 'T'.repeat(256),
  state: 'disabled',
  version: Number.MAX_SAFE_INTEGER,
  kekVersion: 2 ** 32 - 1,
  usesReserved: MAX_USES,
  createdBy: 'a'.repeat(64),
};

/** The bytes, whether a reader takes them or not. */
function bytesOf(meta: KeyMeta): Buffer {
  return Buffer.concat([canonicalRecord(meta), meta.mac]);
}

/** What a reader says to a document: its refusal, or the record. */
function said(read: () => KeyMeta): KeyMeta | string {
  try {
    return plain(read());
  } catch (error) {
    return error instanceof KmsError ? error.message : String(error);
  }
}

test('a packed record is what its MAC is over, and then its MAC', (t) => {
  const record = newRecord();
  t.deepEqual(Buffer.from(packed(record)), Buffer.concat([canonicalRecord(record), record.mac]));
  t.deepEqual(plain(unpacked(packed(record))), record);
});

test('the longest record has MAX_PACKED_BYTES, but for a state that is shorter', (t) => {
  const record = newRecord(LONGEST);
  t.is(packed(record).length, MAX_PACKED_BYTES - 'destroyed'.length + 'disabled'.length);
  t.deepEqual(plain(unpacked(packed(record))), record);
});

test('a destroyed record has no wrapped key', (t) => {
  const record = newRecord(DESTROYED);
  t.deepEqual(plain(unpacked(packed(record))), record);
  for (const meta of [newRecord({ state: 'destroyed' }), newRecord({ wrapped: new Uint8Array(0) })]) {
    t.throws(() => unpacked(bytesOf(meta)), {
      instanceOf: DamagedDocument,
      message: 'record: wrapped must be empty exactly when destroyed',
    });
  }
});

test('what the reader would refuse is not packed', (t) => {
  t.throws(() => packed(newRecord({ threadId: 'a b' })), { code: 'INTERNAL' });
  t.throws(() => packed(newRecord({ mac: new Uint8Array(31) })), { code: 'INTERNAL' });
});

test('a packed record is held to the rules of a record in JSON, in the same words', (t) => {
  const members: { [Name in keyof KeyMeta]?: unknown[] } = {
    format: [0, 1],
    storeId: ['', 'g'.repeat(32), 'A'.repeat(32), 'a'.repeat(31), 'a'.repeat(33), 'a'.repeat(32)],
    keyId: ['', 'k_', 'k_A', 'q_1', `k_${'a'.repeat(65)}`, `k_${'a'.repeat(64)}`, 'k_1\0', 'k_é'],
    threadId: ['', 'a b', 'é', 'x'.repeat(257), 'x'.repeat(256)],
    alg: ['', 'A128GCM', 'a256gcm'],
    state: ['', 'Active', 'decrypt-only', 'disabled', 'active'],
    version: [0, 1, -1, Number.MAX_SAFE_INTEGER],
    wrapped: [new Uint8Array(59), new Uint8Array(61), new Uint8Array(60)],
    kekId: ['', 'kek_', `kek_${'a'.repeat(31)}`, `kek_${'a'.repeat(33)}`, `k_${'a'.repeat(34)}`],
    kekVersion: [0, 1, 2 ** 32 - 1, 2 ** 32],
    usesReserved: [0, -1, MAX_USES, MAX_USES + 1],
    createdAt: ['', '2026-02-29T12:00:00.000Z', '2024-02-29T12:00:00.000Z', '2026-01-31T12:00:00Z', '2026-01-31T24:00:00.000Z'],
    updatedAt: ['', '2026-13-01T12:00:00.000Z', '2026-12-31T23:59:59.999Z'],
    createdBy: ['', 'uid 1', 'x'.repeat(65), 'x'.repeat(64)],
  };
  let refused = 0;
  for (const [name, values] of Object.entries(members)) {
    for (const value of values) {
      const meta = { ...newRecord(), [name]: value } as KeyMeta;
      const answer = said(() => binding.unpackRecord(bytesOf(meta)));
      t.deepEqual(
        answer,
        said(() => binding.parseRecord(recordJson(meta))),
        `${name} ${value}`,
      );
      if (typeof answer === 'string') refused += 1;
    }
  }
  t.true(refused > 30);
});

test('a number has one text', (t) => {
  const record = newRecord({ version: 7 });
  const at = Buffer.from(packed(record)).indexOf(Buffer.from([0, 0, 0, 1, 0x37]));
  for (const text of ['07', '+7', ' 7', '7 ', '7.', '', '0x7', '7\0']) {
    const bytes = Buffer.from(packed(record));
    const field = Buffer.from(`____${text}`);
    field.writeUInt32BE(text.length);
    t.throws(() => unpacked(Buffer.concat([bytes.subarray(0, at), field, bytes.subarray(at + 5)])), {
      message: 'record: version does not follow its rule',
    });
  }
});

test('a record that is cut off or goes on is refused, wherever', (t) => {
  const bytes = Buffer.from(packed(newRecord()));
  for (let length = 0; length < bytes.length; length += 1) {
    t.throws(() => unpacked(bytes.subarray(0, length)), { instanceOf: DamagedDocument }, `${length} bytes`);
  }
  t.throws(() => unpacked(Buffer.concat([bytes, Buffer.from([0])])), { instanceOf: DamagedDocument });
  const more = Buffer.concat([bytes.subarray(0, -32), Buffer.alloc(4), bytes.subarray(-32)]);
  t.throws(() => unpacked(more), { message: 'record: goes on after its end' });
  t.throws(() => unpacked(Buffer.alloc(MAX_PACKED_BYTES + 1)), { message: 'record: is too long' });
  t.throws(() => unpacked(bytes.subarray(0, 31)), { message: 'record: is too short' });
});

test('a newer format is refused by name', (t) => {
  const bytes = Buffer.from(packed(newRecord()));
  const tag = bytes.indexOf('v1') + 1;
  bytes[tag + 5] = 0x32;
  t.throws(() => unpacked(bytes), { message: 'format 2 is newer than this version knows' });
  bytes[tag] = 0x32;
  t.throws(() => binding.unpackRecord(bytes), { code: 'UNSUPPORTED' });
});

test('any record is read back as it was, and no other bytes are read as it', (t) => {
  const text = (unit: string, minLength: number, maxLength: number) =>
    fc.string({ unit: fc.constantFrom(...unit), minLength, maxLength });
  const names = 'abcXYZ019._:@/-';
  const time = fc
    .date({ min: new Date(0), max: new Date('9999-12-31T23:59:59.999Z'), noInvalidDate: true })
    .map((date) => date.toISOString());
  const records = fc.record({
    keyId: text('0189az', 1, 64).map((rest) => `k_${rest}`),
    threadId: text(names, 0, 256),
    version: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
    kekVersion: fc.integer({ min: 1, max: 2 ** 32 - 1 }),
    usesReserved: fc.integer({ min: 0, max: MAX_USES }),
    createdAt: time,
    updatedAt: time,
    createdBy: text(names, 1, 64),
    other: fc.constantFrom({ state: 'active' } as const, { state: 'disabled' } as const, DESTROYED),
  });
  seeded(
    t,
    fc.property(records, fc.nat(), fc.integer({ min: 1, max: 255 }), ({ other, ...some }, where, by) => {
      const record = newRecord({ ...some, ...other });
      const bytes = Buffer.from(packed(record));
      const back = JSON.stringify(plain(unpacked(bytes))) === JSON.stringify(plain(record));
      const at = where % bytes.length;
      bytes[at] = bytes[at]! ^ by;
      const changed = said(() => binding.unpackRecord(bytes));
      return back && (typeof changed === 'string' || JSON.stringify(changed) !== JSON.stringify(plain(record)));
    }),
  );
});
