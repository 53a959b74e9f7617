import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import test from 'ava';
import { CHUNK_BYTES, openFile, type Sealer, sealedSize, sealFile } from '../../dist/cli/files.js';
import { KmsError } from '../../dist/errors.js';

const HEAD = 21;
const SEALED_CHUNK = CHUNK_BYTES + 45;
const keyId = randomBytes(16);
const key = randomBytes(32);

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** Makes answers come out of order. */
const DELAYS_MS = [3, 0, 2, 1, 4];
let calls = 0;
const jitter = () => new Promise((resolve) => setTimeout(resolve, DELAYS_MS[calls++ % DELAYS_MS.length]));

/** The second ciphertext form of docs/FORMATS.md on node:crypto, written apart from the product. */
const sealer: Sealer = {
  async encrypt(plaintext, aad = new Uint8Array(0)) {
    await jitter();
    const header = Buffer.concat([Buffer.of(1), keyId]);
    const nonce = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.concat([header, aad]));
    const body = Buffer.concat([cipher.update(plaintext), cipher.final()]);
    return Buffer.concat([header, nonce, body, cipher.getAuthTag()]);
  },
  async decrypt(sealed, aad = new Uint8Array(0)) {
    await jitter();
    const tagAt = sealed.length - 16;
    const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(17, 29));
    decipher.setAAD(Buffer.concat([sealed.subarray(0, 17), aad])).setAuthTag(sealed.subarray(tagAt));
    try {
      return Buffer.concat([decipher.update(sealed.subarray(29, tagAt)), decipher.final()]);
    } catch {
      throw new KmsError('AUTHENTICATION_FAILED');
    }
  },
};

async function* inParts(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function joined(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk);
  return Buffer.concat(parts);
}

const seal = (bytes: Uint8Array, part = 65_536) => joined(sealFile(inParts(bytes, part), sealer));
const open = (bytes: Uint8Array, part = 65_536) => joined(openFile(inParts(bytes, part), sealer));

const sizes: Array<[string, number]> = [
  ['0 bytes', 0],
  ['1 byte', 1],
  ['a chunk less one byte', CHUNK_BYTES - 1],
  ['exactly a chunk', CHUNK_BYTES],
  ['a chunk and one byte', CHUNK_BYTES + 1],
  ['exactly two chunks', 2 * CHUNK_BYTES],
  ['three chunks', 3 * CHUNK_BYTES],
  ['twenty chunks and a rest', 20 * CHUNK_BYTES + 777],
];

for (const [name, size] of sizes) {
  test(`a file of ${name} comes back as it was, and its sealed form has the stated size`, async (t) => {
    const plain = randomBytes(size);
    const sealed = await seal(plain);
    t.is(sealed.length, sealedSize(size));
    t.is(sealed[0], size > CHUNK_BYTES ? 2 : 1);
    t.true((await open(sealed)).equals(plain));
  });
}

for (const part of [1_000, SEALED_CHUNK, 1_000_003]) {
  test(`how the input is cut makes no difference: reads of ${part} bytes`, async (t) => {
    const plain = randomBytes(3 * CHUNK_BYTES + 5);
    t.true((await open(await seal(plain, part), part)).equals(plain));
  });
}

test('reads of single bytes are put together', async (t) => {
  const plain = randomBytes(100);
  t.true((await open(await seal(plain, 1), 1)).equals(plain));
});

test('the chunked form is what FORMATS.md says, byte by byte', async (t) => {
  const plain = randomBytes(CHUNK_BYTES + 3);
  const sealed = await seal(plain);
  t.is(sealed.subarray(0, 5).toString('latin1'), '\x02pkf1');
  const aad = (index: string, last: string) => {
    const fields = [Buffer.from('progressdb-kms/file/v1'), sealed.subarray(5, HEAD), Buffer.from(index), Buffer.from(last)];
    return Buffer.concat(fields.flatMap((field) => [Buffer.from([0, 0, 0, field.length]), field]));
  };
  const first = await sealer.decrypt(sealed.subarray(HEAD, HEAD + SEALED_CHUNK), aad('0', '0'));
  const second = await sealer.decrypt(sealed.subarray(HEAD + SEALED_CHUNK), aad('1', '1'));
  t.true(Buffer.concat([first, second]).equals(plain));
});

test('several chunks are sealed at once, but only a few', async (t) => {
  let underWay = 0;
  let most = 0;
  const counting: Sealer = {
    async encrypt(bytes, aad) {
      underWay += 1;
      most = Math.max(most, underWay);
      const sealed = await sealer.encrypt(bytes, aad);
      underWay -= 1;
      return sealed;
    },
    decrypt: sealer.decrypt,
  };
  await joined(sealFile(inParts(randomBytes(20 * CHUNK_BYTES), 65_536), counting));
  t.true(most > 1 && most <= 8, `${most} at once`);
});

const plain = randomBytes(3 * CHUNK_BYTES);
const whole = seal(plain);
const chunk = (bytes: Buffer, index: number) => bytes.subarray(HEAD + index * SEALED_CHUNK, HEAD + (index + 1) * SEALED_CHUNK);
const parts = (bytes: Buffer) => [bytes.subarray(0, HEAD), chunk(bytes, 0), chunk(bytes, 1), chunk(bytes, 2)] as const;

function flipped(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] = (copy[at] as number) ^ 1;
  return copy;
}

const damages: Array<[string, (bytes: Buffer) => Promise<Buffer> | Buffer]> = [
  ['is cut after its head', (b) => b.subarray(0, HEAD)],
  ['is cut inside its head', (b) => b.subarray(0, HEAD - 1)],
  ['is cut after its first chunk', (b) => b.subarray(0, HEAD + SEALED_CHUNK)],
  ['is cut after its second chunk', (b) => b.subarray(0, HEAD + 2 * SEALED_CHUNK)],
  ['is cut by one byte', (b) => b.subarray(0, b.length - 1)],
  ['is cut within a tag of a chunk edge', (b) => b.subarray(0, HEAD + SEALED_CHUNK + 20)],
  ['has one byte more', (b) => Buffer.concat([b, Buffer.of(0)])],
  ['has its chunks reordered', (b) => Buffer.concat([parts(b)[0], parts(b)[2], parts(b)[1], parts(b)[3]])],
  ['has a chunk repeated', (b) => Buffer.concat([parts(b)[0], parts(b)[1], parts(b)[1], parts(b)[2], parts(b)[3]])],
  ['lacks a chunk in the middle', (b) => Buffer.concat([parts(b)[0], parts(b)[1], parts(b)[3]])],
  ['lacks its first chunk', (b) => Buffer.concat([parts(b)[0], parts(b)[2], parts(b)[3]])],
  [
    'holds a chunk of another file',
    async (b) => Buffer.concat([...parts(b).slice(0, 2), chunk(await seal(plain), 1), parts(b)[3]]),
  ],
  ['ends with the end of another file', async (b) => Buffer.concat([...parts(b).slice(0, 3), chunk(await seal(plain), 2)])],
  ['has a bit of its file id flipped', (b) => flipped(b, 7)],
  ['has a bit of a nonce flipped', (b) => flipped(b, HEAD + 20)],
  ['has a bit of a ciphertext flipped', (b) => flipped(b, HEAD + SEALED_CHUNK + 5_000)],
  ['has a bit of its last tag flipped', (b) => flipped(b, b.length - 1)],
  ['is one of its chunks alone', (b) => Buffer.from(chunk(b, 2))],
  ['has another file appended', (b) => Buffer.concat([b, b])],
];

for (const [name, damage] of damages) {
  test(`a file that ${name} does not decrypt`, async (t) => {
    const bytes = await whole;
    t.true((await open(bytes)).equals(plain), 'the undamaged file decrypts');
    const error = await t.throwsAsync(open(await damage(bytes)), { instanceOf: KmsError });
    t.is(error?.code, 'AUTHENTICATION_FAILED');
  });
}

for (const [name, at] of [
  ['version byte and key id', 5],
  ['nonce', 20],
  ['ciphertext', 40],
  ['tag', 100 + 44],
] as const) {
  test(`a small file with a flipped bit in its ${name} does not decrypt`, async (t) => {
    const sealed = await seal(randomBytes(100));
    await t.throwsAsync(open(flipped(sealed, at)), { code: 'AUTHENTICATION_FAILED' });
  });
}

test('a small file that is cut or lengthened does not decrypt', async (t) => {
  const sealed = await seal(randomBytes(100));
  for (const size of [1, 17, 44, sealed.length - 1]) {
    await t.throwsAsync(open(sealed.subarray(0, size)), { code: 'AUTHENTICATION_FAILED' }, `${size} bytes`);
  }
  await t.throwsAsync(open(Buffer.concat([sealed, randomBytes(CHUNK_BYTES)])), { code: 'AUTHENTICATION_FAILED' });
});

test('what precedes a damaged chunk comes out, nothing of it or after it does', async (t) => {
  const bytes = flipped(await whole, HEAD + SEALED_CHUNK + 9);
  const out: Uint8Array[] = [];
  await t.throwsAsync(async () => {
    for await (const piece of openFile(inParts(bytes, 65_536), sealer)) out.push(piece);
  });
  t.true(Buffer.concat(out).equals(plain.subarray(0, CHUNK_BYTES)));
});

test('something that was never sealed is called so, and an empty input too', async (t) => {
  for (const bytes of [Buffer.from('#!/bin/sh\n'), Buffer.alloc(0), Buffer.from('\x02zip!')]) {
    await t.throwsAsync(open(bytes), { code: 'INVALID_ARGUMENT', message: /not a file that progressdb-kms encrypted/ });
  }
});

test('a newer file format is refused by name', async (t) => {
  const newer = Buffer.from(await whole);
  newer[4] = 0x32;
  await t.throwsAsync(open(newer), { code: 'UNSUPPORTED', message: /pkf2/ });
});

test.serial('memory does not grow with the size of a file', async (t) => {
  const passing: Sealer = { encrypt: async (bytes) => bytes, decrypt: async (bytes) => bytes };
  const MIB = 2 ** 20;
  async function* zeros() {
    const part = Buffer.alloc(MIB);
    for (let sent = 0; sent < 512; sent += 1) yield part;
  }
  /** What is held: what is not, and only waits to be collected, is so much as the machine has time for. Twice: the first leaves work to a thread. */
  const held = () => {
    collect();
    collect();
    return process.memoryUsage().arrayBuffers;
  };
  const before = held();
  let most = 0;
  let bytes = 0;
  let looks = 0;
  for await (const piece of sealFile(zeros(), passing)) {
    bytes += piece.length;
    if (bytes < looks * 32 * MIB) continue;
    looks += 1;
    most = Math.max(most, held() - before);
  }
  t.true(bytes > 512 * MIB);
  t.true(most < 64 * MIB, `${Math.round(most / MIB)} MiB at most`);
});

test('a reader that stops early leaves nothing under way', async (t) => {
  let underWay = 0;
  const counting: Sealer = {
    async encrypt(bytes) {
      underWay += 1;
      await new Promise((resolve) => setTimeout(resolve, 5));
      underWay -= 1;
      return bytes;
    },
    decrypt: sealer.decrypt,
  };
  let seen = 0;
  for await (const _ of sealFile(inParts(randomBytes(6 * CHUNK_BYTES), 65_536), counting)) {
    seen += 1;
    if (seen === 2) break;
  }
  t.is(underWay, 0);
});
