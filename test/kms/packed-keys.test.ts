import test, { type ExecutionContext } from 'ava';
import { ERROR_TABLE, type ErrorCode } from '../../dist/errors.js';
import { MAX_PACKED_BYTES, MAX_USES, SOFT_USES } from '../../dist/limits.js';
import { binding } from '../../dist/native.js';
import { canonicalRecord, dekAad } from '../../dist/store/canonical.js';
import type { KeyMeta } from '../../dist/store/key-store.js';
import { packed, unpacked } from '../../dist/store/packed.js';
import { encrypt, NEEDS_USES, NOT_CACHED } from '../../dist/vault.js';
import { newKeyId, plain } from '../store/documents.js';
import { type Ringed, ringed } from './ringed.js';

const AT = '2026-02-01T00:00:00.000Z';
const DESTROYED = { state: 'destroyed', wrapped: new Uint8Array(0) } as const;
const statusOf = (code: ErrorCode) => -ERROR_TABLE[code].wire;
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

/** The key of a record under a handle that `loadRecord` gave, for comparison. */
function loaded({ vault }: Ringed, keyId: string, bytes: Uint8Array): string {
  return hex(vault.exportDek(vault.loadRecord(keyId, bytes)));
}

function made({ vault }: Ringed, keyId = newKeyId(), dek = vault.generate('dek')): Uint8Array {
  return vault.makeRecord(dek, keyId, 'thread:1', 'uid:1000', AT, 1_024);
}

/** No call believes the record, and nothing of it is in the vault afterwards. */
function refused(
  t: ExecutionContext,
  { vault }: Ringed,
  keyId: string,
  bytes: Uint8Array,
  sound: Uint8Array,
  what: string,
): void {
  t.true(vault.loadRecord(keyId, bytes) < 0, `load: ${what}`);
  t.true((vault.moveRecord(keyId, bytes, AT) as number) < 0, `move: ${what}`);
  t.true((vault.holdSameKey(sound, bytes) as number) < 0, `compare: ${what}`);
  t.true((vault.holdSameKey(bytes, sound) as number) < 0, `compare: ${what}`);
  t.is(vault.cachedKeys, 0, what);
}

test('a record that TypeScript made is loaded, with the key that was wrapped and no uses', (t) => {
  const ring = ringed(t);
  const { vault, record } = ring;
  for (const [kekId, kekVersion] of ring.keks) {
    const dek = vault.generate('dek');
    const meta = record(dek, { kekId, kekVersion, threadId: kekVersion === 1 ? '' : 'thread/2' });
    const key = vault.loadRecord(meta.keyId, packed(meta));
    t.true(key > 0);
    t.is(key, vault.find(meta.keyId));
    t.is(hex(vault.exportDek(key)), hex(vault.exportDek(dek)));
    t.is(vault.kekVersionOf(key), String(kekVersion));
    t.is(encrypt(key, new Uint8Array(4), undefined), NEEDS_USES);
    vault.grantUses(meta.keyId, 1);
    t.is((encrypt(key, new Uint8Array(4), undefined) as Uint8Array).length, 32);
  }
});

test('a record that is made natively is the one that TypeScript would make', (t) => {
  const ring = ringed(t);
  const { vault, storeId, recordMac, keks } = ring;
  const [[kekId, kekVersion, kek]] = keks as [Ringed['keks'][number]];
  for (const threadId of ['', 'thread:1/a@b', 'x'.repeat(256)]) {
    const keyId = newKeyId();
    const dek = vault.generate('dek');
    const bytes = vault.makeRecord(dek, keyId, threadId, 'oidc:someone', AT, 2 ** 32);
    const meta = plain(unpacked(bytes));
    const { wrapped, mac, ...rest } = meta;
    t.deepEqual(rest, {
      ...{ format: 1, storeId, keyId, threadId, alg: 'A256GCM', state: 'active', version: 1, kekId, kekVersion },
      ...{ usesReserved: 2 ** 32, createdAt: AT, updatedAt: AT, createdBy: 'oidc:someone' },
    });
    t.true(vault.macMatches(recordMac, canonicalRecord(meta), mac));
    t.true(vault.isSame(dek, vault.unwrap(kek, wrapped, dekAad(meta), 'dek')));
    t.is(hex(packed(meta)), hex(bytes));
  }
});

test('no two wraps share a nonce', (t) => {
  const ring = ringed(t);
  const keyId = newKeyId();
  const dek = ring.vault.generate('dek');
  const nonces = Array.from({ length: 2_000 }, () => hex(unpacked(made(ring, keyId, dek)).wrapped.subarray(0, 12)));
  t.is(new Set(nonces).size, nonces.length);
});

test('the longest record is made, loaded and moved', (t) => {
  const ring = ringed(t);
  const { vault, record } = ring;
  const [, [kekId]] = ring.keks as [unknown, Ringed['keks'][number]];
  const longest = { keyId: `k_${'z'.repeat(64)}`, threadId: 'T'.repeat(256), createdBy: 'a'.repeat(64), kekId, kekVersion: 1 };
  const meta = record(vault.generate('dek'), { ...longest, version: 2 ** 53 - 2, usesReserved: SOFT_USES - 1 });
  const moved = vault.moveRecord(meta.keyId, packed(meta), AT) as Uint8Array;
  t.is(unpacked(moved).version, 2 ** 53 - 1);
  t.is(loaded(ring, meta.keyId, moved), loaded(ring, meta.keyId, packed(meta)));
  const bytes = vault.makeRecord(vault.generate('dek'), meta.keyId, meta.threadId, meta.createdBy, AT, MAX_USES);
  t.true(bytes.length <= MAX_PACKED_BYTES && moved.length <= MAX_PACKED_BYTES);
});

test('every change of a single byte is refused', (t) => {
  const ring = ringed(t);
  const keyId = newKeyId();
  const sound = made(ring, keyId);
  for (let at = 0; at < sound.length; at += 1) {
    for (const by of [1, 0x80]) {
      const bytes = new Uint8Array(sound);
      bytes[at] = bytes[at]! ^ by;
      refused(t, ring, keyId, bytes, sound, `byte ${at} ^ ${by}`);
    }
  }
  t.true(ring.vault.loadRecord(keyId, sound) > 0, 'it was sound');
});

test('a record that is cut off or goes on is refused', (t) => {
  const ring = ringed(t);
  const keyId = newKeyId();
  const sound = made(ring, keyId);
  for (let length = 0; length < sound.length; length += 1) {
    refused(t, ring, keyId, sound.subarray(0, length), sound, `${length} bytes`);
  }
  for (const more of [1, 4, 32, 10_000])
    refused(t, ring, keyId, Buffer.concat([sound, Buffer.alloc(more)]), sound, `${more} more`);
});

test('what the MAC holds for is refused where it is not sound: another store, another id, another KEK, another key', (t) => {
  const ring = ringed(t);
  const { vault, record, sealed } = ring;
  const meta = record(vault.generate('dek'));
  const sound = packed(meta);
  const other = record(vault.generate('dek'));
  const kekId = `kek_${'0'.repeat(32)}`;
  const faulty: Array<[what: string, meta: KeyMeta]> = [
    ['another store', { ...meta, storeId: '0'.repeat(32) }],
    ['another store, to which its key is bound', record(vault.generate('dek'), { keyId: meta.keyId, storeId: '0'.repeat(32) })],
    ['a KEK that nobody holds', { ...meta, kekId }],
    ['a wrapped key of another record', { ...meta, wrapped: other.wrapped }],
    ['another thread than the key was made for', { ...meta, threadId: 'somebody/else' }],
    ['another maker', { ...meta, createdBy: 'uid:0' }],
    ['another time', { ...meta, createdAt: AT }],
    ['another version of the KEK', { ...meta, kekVersion: meta.kekVersion + 1 }],
  ];
  for (const [what, one] of faulty) {
    // One that names the active KEK needs no move, so that its wrapped key is not looked at.
    t.true(vault.loadRecord(meta.keyId, sealed(one)) < 0, what);
    t.true((vault.holdSameKey(sound, sealed(one)) as number) < 0, what);
    const old = ring.keks[1]!;
    if (one.kekId !== kekId) vault.setRing(ring.storeId, ring.recordMac, [old, ring.keks[0]!]);
    t.true((vault.moveRecord(meta.keyId, sealed(one), AT) as number) < 0, `${what}: move`);
    vault.setRing(ring.storeId, ring.recordMac, ring.keks);
  }
  t.is(vault.cachedKeys, 0);
  t.is(vault.loadRecord(newKeyId(), sound), statusOf('STORE_UNAVAILABLE'), 'another id');
  t.is(vault.moveRecord(newKeyId(), sound, AT), statusOf('STORE_UNAVAILABLE'));
  t.is(vault.holdSameKey(sound, packed(other)), statusOf('STORE_UNAVAILABLE'), 'records of two keys are not compared');
  t.is(vault.cachedKeys, 0);
});

test('a disabled or destroyed record leaves its state as the answer', (t) => {
  const ring = ringed(t);
  const { vault, record } = ring;
  const dek = vault.generate('dek');
  for (const [overrides, code] of [
    [{ state: 'disabled' }, 'KEY_DISABLED'],
    [{ ...DESTROYED, kekId: `kek_${'f'.repeat(32)}` }, 'KEY_DESTROYED'],
  ] as const) {
    const meta =
      overrides.state === 'disabled' ? record(dek, overrides) : unpacked(ring.sealed({ ...record(dek), ...overrides }));
    const key = vault.loadRecord(meta.keyId, packed(meta));
    t.true(key > 0);
    t.throws(() => encrypt(key, new Uint8Array(1), undefined), { code });
    const forged = Buffer.from(packed(meta));
    forged[forged.length - 1]! ^= 1;
    const other = newKeyId();
    t.true(vault.loadRecord(meta.keyId, forged) < 0);
    t.true(vault.loadRecord(other, packed(meta)) < 0);
    t.is(vault.find(other), 0);
  }
});

test('a key that was active and is disabled now is wiped by its record', (t) => {
  const ring = ringed(t);
  const { vault, record } = ring;
  const meta = record(vault.generate('dek'));
  const before = vault.loadRecord(meta.keyId, packed(meta));
  const { mac: _mac, ...rest } = meta;
  const after = vault.loadRecord(meta.keyId, ring.sealed({ ...rest, state: 'disabled', version: 2 } as KeyMeta));
  t.throws(() => encrypt(after, new Uint8Array(1), undefined), { code: 'KEY_DISABLED' });
  t.is(encrypt(before, new Uint8Array(1), undefined), NOT_CACHED);
});

test('a key that is due for a successor takes the way that tells somebody', (t) => {
  const { vault, record } = ringed(t);
  const at = record(vault.generate('dek'), { usesReserved: SOFT_USES });
  const below = record(vault.generate('dek'), { usesReserved: SOFT_USES - 1 });
  t.is(vault.loadRecord(at.keyId, packed(at)), statusOf('KEY_EXHAUSTED'));
  t.true(vault.loadRecord(below.keyId, packed(below)) > 0);
});

test('a moved record holds the same key under the active KEK and is otherwise as it was, but for its version and time', (t) => {
  const ring = ringed(t);
  const { vault, record, keks, recordMac } = ring;
  const [[to, toVersion, kek], [from]] = keks as [Ringed['keks'][number], Ringed['keks'][number]];
  for (const state of ['active', 'disabled'] as const) {
    const dek = vault.generate('dek');
    const before = record(dek, { kekId: from, kekVersion: 1, state, version: 7, usesReserved: 123_456 });
    const bytes = vault.moveRecord(before.keyId, packed(before), AT) as Uint8Array;
    const after = plain(unpacked(bytes));
    const { wrapped, mac } = after;
    t.deepEqual(after, { ...before, kekId: to, kekVersion: toVersion, version: 8, updatedAt: AT, wrapped, mac });
    t.true(vault.macMatches(recordMac, canonicalRecord(after), mac));
    t.true(vault.isSame(dek, vault.unwrap(kek, wrapped, dekAad(after), 'dek')));
    t.is(vault.holdSameKey(bytes, packed(before)), true);
    t.is(vault.moveRecord(before.keyId, bytes, AT), 0, 'it is there');
  }
});

test('a destroyed record needs no move, though its KEK may be gone, and is not compared', (t) => {
  const ring = ringed(t);
  const dek = ring.vault.generate('dek');
  const meta = unpacked(ring.sealed({ ...ring.record(dek), ...DESTROYED, kekId: `kek_${'0'.repeat(32)}` }));
  t.is(ring.vault.moveRecord(meta.keyId, packed(meta), AT), 0);
  t.true((ring.vault.holdSameKey(packed(meta), packed(meta)) as number) < 0);
  const forged = Buffer.from(packed(meta));
  forged[forged.length - 1]! ^= 1;
  t.true((ring.vault.moveRecord(meta.keyId, forged, AT) as number) < 0);
});

test('a record of the last version is loaded, and not moved', (t) => {
  const { vault, record, keks } = ringed(t);
  const meta = record(vault.generate('dek'), { kekId: keks[1]![0], kekVersion: 1, version: Number.MAX_SAFE_INTEGER });
  t.true(vault.loadRecord(meta.keyId, packed(meta)) > 0);
  t.is(vault.moveRecord(meta.keyId, packed(meta), AT), statusOf('INVALID_ARGUMENT'));
});

test('two records of one id that hold two keys are told apart', (t) => {
  const { vault, record } = ringed(t);
  const meta = record(vault.generate('dek'));
  const other = record(vault.generate('dek'), { keyId: meta.keyId });
  t.is(vault.holdSameKey(packed(meta), packed(other)), false);
  t.is(vault.holdSameKey(packed(meta), packed(meta)), true);
});

test('nothing is made of what breaks a rule of a record', (t) => {
  const { vault, keks } = ringed(t);
  const dek = vault.generate('dek');
  const make = (
    overrides: Partial<Record<'keyId' | 'threadId' | 'createdBy' | 'at', string>> & { uses?: number; dek?: number },
  ) => {
    const all = { dek, keyId: newKeyId(), threadId: '', createdBy: 'uid:1', at: AT, uses: 1, ...overrides };
    return vault.makeRecord(all.dek, all.keyId, all.threadId, all.createdBy, all.at, all.uses);
  };
  t.true(make({}).length > 0);
  const faulty: Array<Parameters<typeof make>[0]> = [
    ...['', 'k_', 'k_A', `k_${'a'.repeat(65)}`, `k_${'a'.repeat(64)}é`, `k_${'a'.repeat(64)}😀`, 'k_\u0161', 'k_1\0'].map(
      (keyId) => ({ keyId }),
    ),
    ...['a b', 'x'.repeat(257), `${'x'.repeat(256)}€`, 'x'.repeat(10_000)].map((threadId) => ({ threadId })),
    ...['', 'x'.repeat(65), `${'x'.repeat(64)}€`].map((createdBy) => ({ createdBy })),
    ...['', '2026-02-01', `${AT} `, `${AT}😀`].map((at) => ({ at })),
    ...[-1, 1.5, Number.NaN, MAX_USES + 1].map((uses) => ({ uses })),
    ...[0, keks[0]![2], 12_345].map((key) => ({ dek: key })),
  ];
  for (const one of faulty) t.throws(() => make(one), { code: 'INVALID_ARGUMENT' }, JSON.stringify(one));
  t.is(vault.moveRecord('k_1', new Uint8Array(10), 'yesterday'), statusOf('INVALID_ARGUMENT'));
});

test('arguments of another kind, and a place without room for the longest record, are refused', (t) => {
  const { vault } = ringed(t);
  const dek = vault.generate('dek');
  const make = (out: unknown, offset: unknown) =>
    binding.makeRecord(vault.space, dek, 'k_1', '', 'uid:1', AT, 1, out as Uint8Array, offset as number);
  t.true(make(new Uint8Array(MAX_PACKED_BYTES + 8), 8) > 0);
  const bad = statusOf('INVALID_ARGUMENT');
  for (const [out, offset] of [
    [new Uint8Array(MAX_PACKED_BYTES - 1), 0],
    [new Uint8Array(MAX_PACKED_BYTES + 8), 9],
    [new Uint8Array(MAX_PACKED_BYTES), 2 ** 32],
    [new Uint8Array(MAX_PACKED_BYTES), -1],
    [new Uint8Array(MAX_PACKED_BYTES), 0.5],
    [new Float64Array(MAX_PACKED_BYTES), 0],
    [undefined, 0],
  ]) {
    t.is(make(out, offset), bad);
  }
  const call = (name: 'loadRecord' | 'moveRecord' | 'holdSameKey' | 'makeRecord', ...args: unknown[]) =>
    (binding[name] as (...args: unknown[]) => number)(...args);
  t.is(call('loadRecord', vault.space, 1, new Uint8Array(1)), bad);
  t.is(call('loadRecord', vault.space, 'k_1'), bad);
  t.is(call('loadRecord', vault.space, 'k_1', 'text'), bad);
  t.is(call('moveRecord', vault.space, 'k_1', new Uint8Array(1), AT), bad);
  t.is(call('holdSameKey', vault.space, new Uint8Array(1)), bad);
  t.is(call('makeRecord'), bad);
});

test('a ring is of its own space, whole, and replaced as one', (t) => {
  const ring = ringed(t);
  const { vault, storeId, recordMac, keks } = ring;
  const [one, two] = keks as [Ringed['keks'][number], Ringed['keks'][number]];
  const other = ringed(t);
  const invalid = { code: 'INVALID_ARGUMENT' };
  t.throws(() => vault.setRing('nothing', recordMac, keks), invalid);
  t.throws(() => vault.setRing(storeId, recordMac, []), invalid);
  t.throws(() => vault.setRing(storeId, other.recordMac, keks), invalid);
  t.throws(() => vault.setRing(storeId, recordMac, other.keks), invalid);
  t.throws(() => vault.setRing(storeId, recordMac, [['kek_1', 1, one[2]]]), invalid);
  for (const version of [0, -1, 2 ** 32, Number.NaN])
    t.throws(() => vault.setRing(storeId, recordMac, [[one[0], version, one[2]]]), invalid);
  for (const keys of [undefined, [undefined], [1], [[]], [['a', 'b', 'c']]])
    t.throws(() => vault.setRing(storeId, recordMac, keys as never), invalid);
  const meta = ring.record(vault.generate('dek'));
  const load = () => vault.loadRecord(meta.keyId, packed(meta));
  vault.setRing(storeId, recordMac, [two]);
  t.is(load(), statusOf('STORE_UNAVAILABLE'), 'its KEK is not there any more');
  vault.setRing(storeId, recordMac, [two, one]);
  t.true(load() > 0);
  t.is(unpacked(made(ring)).kekVersion, two[1], 'the first one wraps');
  t.is(other.vault.loadRecord(meta.keyId, packed(meta)), statusOf('STORE_UNAVAILABLE'), 'it is not the ring of others');
});

test('a ring takes no MAC key for a KEK, and no KEK for a MAC key', (t) => {
  const ring = ringed(t);
  const { vault, storeId, recordMac, keks } = ring;
  const sound = made(ring);
  const { keyId } = unpacked(sound);
  vault.setRing(storeId, keks[0]![2], keks);
  t.is(vault.loadRecord(keyId, sound), statusOf('INVALID_ARGUMENT'));
  vault.setRing(storeId, recordMac, [[keks[0]![0], 1, recordMac]]);
  t.is(vault.loadRecord(keyId, sound), statusOf('INVALID_ARGUMENT'));
  t.throws(() => made(ring), { code: 'INVALID_ARGUMENT' });
});

test('a KEK that was wiped serves no more, and nothing serves after the end of its space', (t) => {
  const ring = ringed(t);
  const { vault, keks } = ring;
  const meta = ring.record(vault.generate('dek'), { kekId: keks[1]![0], kekVersion: 1 });
  vault.release(keks[1]![2]);
  t.is(vault.loadRecord(meta.keyId, packed(meta)), statusOf('INVALID_ARGUMENT'));
  t.is(vault.moveRecord(meta.keyId, packed(meta), AT), statusOf('INVALID_ARGUMENT'));
  const { space } = vault;
  vault.close();
  t.throws(() => vault.loadRecord(meta.keyId, packed(meta)), { code: 'SEALED' });
  t.is(binding.loadRecord(space, meta.keyId, packed(meta)), statusOf('SEALED'));
  t.throws(() => binding.setRing(space, ring.storeId, ring.recordMac, keks), { code: 'SEALED' });
});

test('a full vault makes room for every key that is loaded', (t) => {
  const ring = ringed(t, 8);
  const keys = Array.from({ length: 40 }, () => {
    const keyId = newKeyId();
    const dek = ring.vault.generate('dek');
    const bytes = made(ring, keyId, dek);
    const key = hex(ring.vault.exportDek(dek));
    ring.vault.release(dek);
    return { keyId, bytes, key };
  });
  for (let round = 0; round < 3; round += 1) {
    for (const { keyId, bytes, key } of keys) {
      t.is(loaded(ring, keyId, bytes), key);
      t.is(loaded(ring, keyId, bytes), key, 'and again, while it is there');
    }
    t.is(ring.vault.cachedKeys, 8);
  }
});

test('calls leave no key behind in the arena but those that are cached', (t) => {
  const ring = ringed(t);
  const { vault, record, keks } = ring;
  const meta = record(vault.generate('dek'), { kekId: keks[1]![0], kekVersion: 1 });
  const bytes = packed(meta);
  const before = binding.arenaInfo().used;
  const moved = vault.moveRecord(meta.keyId, bytes, AT) as Uint8Array;
  t.is(vault.holdSameKey(moved, bytes), true);
  vault.moveRecord(meta.keyId, moved, AT);
  vault.moveRecord(meta.keyId, bytes.subarray(1), AT);
  vault.loadRecord(meta.keyId, bytes.subarray(1));
  t.is(binding.arenaInfo().used, before);
  vault.loadRecord(meta.keyId, bytes);
  vault.loadRecord(meta.keyId, bytes);
  t.is(binding.arenaInfo().used, before + 1);
});
