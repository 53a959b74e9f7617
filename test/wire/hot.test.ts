import { decode, encode } from '@msgpack/msgpack';
import test from 'ava';
import fc from 'fast-check';
import notepack from 'notepack.io';
import { KmsError } from '../../dist/errors.js';
import {
  batchFrameBytes,
  checkKeyId,
  hotFrameBytes,
  readBinary,
  readEncrypted,
  readItems,
  requestIdAt,
  writeBatchFrame,
  writeColdFrame,
  writeHotFrame,
} from '../../dist/wire/hot.js';
import { decodeRequest, encodeRequest, parseArguments } from '../../dist/wire/messages.js';
import { Reader } from '../../dist/wire/reader.js';

const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
const parameters = { seed, numRuns: 300 };
test.before((t) => t.log(`seed ${seed}`));

const keyId = fc.stringMatching(/^k_[0-9a-z]{1,64}$/);
const data = fc.oneof(
  fc.uint8Array({ maxLength: 300 }),
  fc.nat(70_000).map((length) => new Uint8Array(length).fill(length)),
);
const aad = fc.option(fc.uint8Array({ maxLength: 300 }), { nil: undefined });
const id = fc.nat(0xffff_ffff);
const offset = fc.nat(9);

function hex(bytes: unknown): unknown {
  if (Array.isArray(bytes)) return bytes.map(hex);
  return bytes instanceof Uint8Array ? Buffer.from(bytes).toString('hex') : (bytes ?? null);
}

test('a hot request is, to another decoder, the request that was meant', (t) => {
  fc.assert(
    fc.property(id, fc.constantFrom(2, 3), fc.option(keyId, { nil: undefined }), data, aad, offset, (i, op, k, d, a, at) => {
      const slab = Buffer.alloc(at + hotFrameBytes(d, a), 0xee);
      const end = writeHotFrame(slab, at, i, op, k, d, a);
      t.true(end <= slab.length);
      t.is(slab.readUInt32BE(at), end - at - 4);
      t.is(requestIdAt(slab, at), i);
      t.deepEqual(hex(decode(slab.subarray(at + 4, end))), hex([i, op, k, d, a]));
      t.true(slab.subarray(0, at).every((byte) => byte === 0xee));
    }),
    parameters,
  );
});

test('a batch request is, to another decoder and to the daemon, the request that was meant', (t) => {
  const items = fc.array(fc.tuple(data, aad), { maxLength: 40 });
  fc.assert(
    fc.property(id, keyId, items, fc.constantFrom('each', 'one', 'none'), offset, (i, k, pairs, form, at) => {
      const plaintexts = pairs.map(([item]) => item);
      const aads = form === 'each' ? pairs.map(([, item]) => item) : form === 'one' ? Uint8Array.of(1, 2) : undefined;
      const slab = Buffer.alloc(at + batchFrameBytes(plaintexts, aads));
      const end = writeBatchFrame(slab, at, i, 4, k, plaintexts, aads);
      t.true(end <= slab.length);
      t.deepEqual(hex(decode(slab.subarray(at + 4, end))), hex([i, 4, k, plaintexts, aads]));
      const { op, args } = decodeRequest(slab.subarray(at + 4, end));
      t.notThrows(() => parseArguments(op, args));
    }),
    { ...parameters, numRuns: 60 },
  );
});

test('a cold frame is given its id in place', (t) => {
  const frame = encodeRequest(0xffff_ffff, 1, ['thread']);
  const slab = Buffer.alloc(100);
  for (const given of [1, 0x1_0000, 0xffff_fffe]) {
    t.is(writeColdFrame(slab, 3, given, frame), 3 + frame.length);
    t.deepEqual(decode(slab.subarray(7, 3 + frame.length)), [given, 1, 'thread']);
    t.is(requestIdAt(slab, 3), given);
  }
});

const encoders: Array<[string, (value: unknown) => Uint8Array]> = [
  ['@msgpack/msgpack', (value) => encode(value)],
  // It writes only Buffers as binaries.
  ['notepack.io', (value) => notepack.encode(buffered(value))],
];

function buffered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(buffered);
  return value instanceof Uint8Array ? Buffer.from(value) : value;
}

for (const [name, encoder] of encoders) {
  test(`answers as ${name} encodes them are read`, (t) => {
    fc.assert(
      fc.property(
        data,
        fc.nat(2 ** 31),
        fc.array(fc.oneof(data, fc.constant([2, 'decryption failed'])), { maxLength: 30 }),
        (d, v, items) => {
          const one = Buffer.from(encoder([d, String(v)]));
          const reader = new Reader().open(one, 1, one.length);
          const { ciphertext, keyVersion } = readEncrypted(reader, one);
          t.deepEqual([hex(ciphertext), keyVersion], [hex(d), String(v)]);
          t.notThrows(() => reader.finish());

          const many = Buffer.from(encoder(items));
          const read = readItems(new Reader().open(many, 0, many.length), many);
          t.deepEqual(
            read.map((item) => (item instanceof KmsError ? item.code : hex(item))),
            items.map((item) => (item instanceof Uint8Array ? hex(item) : 'AUTHENTICATION_FAILED')),
          );
        },
      ),
      { ...parameters, numRuns: 100 },
    );
  });
}

test('a binary, a text and an array are read in every one of their encodings', (t) => {
  for (const marker of ['c403', 'c50003', 'c600000003']) {
    const bytes = Buffer.from(`${marker}aabbcc`, 'hex');
    t.is(hex(readBinary(new Reader().open(bytes, 0, bytes.length), bytes)), 'aabbcc');
  }
  for (const marker of ['a1', 'd901', 'da0001', 'db00000001']) {
    for (const character of ['31', '7f']) {
      const bytes = Buffer.from(marker + character, 'hex');
      t.is(new Reader().open(bytes, 0, bytes.length).string(), Buffer.from(character, 'hex').toString());
    }
  }
  for (const marker of ['91', 'dc0001', 'dd00000001']) {
    const bytes = Buffer.from(`${marker}c401aa`, 'hex');
    t.deepEqual(readItems(new Reader().open(bytes, 0, bytes.length), bytes).map(hex), ['aa']);
  }
});

test('a binary that claims more than the frame holds is refused', (t) => {
  for (const text of ['c404aabbcc', 'c50004aabbcc', 'c6ffffffffaabbcc', 'c4', 'c500', 'a3616263', 'c0']) {
    const bytes = Buffer.concat([Buffer.from(text, 'hex'), Buffer.alloc(20)]);
    t.throws(() => readBinary(new Reader().open(bytes, 0, bytes.length - 20), bytes), { name: 'MalformedMessage' }, text);
  }
});

test('what is no key id is refused before and after one that is', (t) => {
  for (const text of ['', 'k_', 'k_A', 'x_1', `k_${'a'.repeat(65)}`, 'k_1\n', 'k_é', 7, null]) {
    t.throws(() => checkKeyId(text as string), { message: /key_id/ });
    checkKeyId('k_1');
    t.throws(() => checkKeyId(text as string), { message: /key_id/ });
  }
});
