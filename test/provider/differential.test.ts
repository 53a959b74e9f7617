import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import test from 'ava';
import fc from 'fast-check';
import { ERROR_TABLE, KmsError } from '../../dist/errors.js';
import { daemonWith, embeddedWith } from '../vectors/imported.js';

const seed = Number(process.env['TEST_SEED'] ?? Date.now() % 2 ** 31);
test.before((t) => t.log(`seed ${seed} (TEST_SEED=${seed} runs the same)`));
const runs = (numRuns: number) => ({ seed, numRuns });

const NONCE = 12;
const TAG = 16;

/** nonce ‖ ciphertext ‖ tag as node:crypto makes it. */
function sealedByNode(raw: Uint8Array, plain: Uint8Array, aad: Uint8Array | undefined): Buffer {
  const nonce = randomBytes(NONCE);
  const cipher = createCipheriv('aes-256-gcm', raw, nonce, { authTagLength: TAG });
  if (aad !== undefined) cipher.setAAD(aad);
  return Buffer.concat([nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

function openedByNode(raw: Uint8Array, sealed: Uint8Array, aad: Uint8Array | undefined): Buffer {
  const decipher = createDecipheriv('aes-256-gcm', raw, sealed.subarray(0, NONCE), { authTagLength: TAG });
  if (aad !== undefined) decipher.setAAD(aad);
  decipher.setAuthTag(sealed.subarray(-TAG));
  return Buffer.concat([decipher.update(sealed.subarray(NONCE, -TAG)), decipher.final()]);
}

interface Message {
  plain: Uint8Array;
  aad: Uint8Array | undefined;
  /** Which bit of the ciphertext is flipped, as a part of its length. */
  flip: number;
  /** Which way is taken. */
  way: number;
}

// Content comes from a seed of its own: what is interesting is how long it is.
const length = fc.oneof(
  fc.nat(70_000),
  fc.nat(300),
  fc.constantFrom(0, 1, 15, 16, 17, 4_095, 4_096, 65_507, 65_508, 65_509, 65_535, 65_536, 70_000),
);
const plain = fc
  .tuple(length, fc.nat(255))
  .map(([size, start]) => Uint8Array.from({ length: size }, (_, i) => (i * 7 + start) & 0xff));
const message = fc.record<Message>({
  plain,
  aad: fc.option(fc.uint8Array({ maxLength: 100 }), { nil: undefined }),
  flip: fc.double({ min: 0, max: 0.999_999, noNaN: true }),
  way: fc.nat(100),
});

function flipped(sealed: Uint8Array, part: number): Uint8Array {
  const copy = new Uint8Array(sealed);
  const bit = Math.floor(part * 8 * copy.length);
  copy[bit >> 3]! ^= 1 << (bit & 7);
  return copy;
}

/** One way to encrypt and decrypt. */
interface Way {
  name: string;
  encrypt(plain: Uint8Array, aad: Uint8Array | undefined): Promise<Uint8Array>;
  decrypt(sealed: Uint8Array, aad: Uint8Array | undefined): Promise<Uint8Array>;
}

function demand(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}

function result(item: Uint8Array | KmsError | undefined): Uint8Array {
  if (item instanceof Uint8Array) return item;
  throw item;
}

async function agrees(raw: Uint8Array, way: Way, { plain: text, aad, flip }: Message): Promise<void> {
  const ours = await way.encrypt(text, aad);
  demand(ours.length === text.length + NONCE + TAG, `${way.name}: length ${ours.length} for ${text.length}`);
  demand(openedByNode(raw, ours, aad).equals(text), `${way.name}: node does not decrypt ours`);
  const theirs = sealedByNode(raw, text, aad);
  demand(Buffer.compare(await way.decrypt(theirs, aad), text) === 0, `${way.name}: ours does not decrypt node's`);
  for (const wrong of [flipped(ours, flip), flipped(theirs, flip)]) {
    const error = await way.decrypt(wrong, aad).then(
      () => undefined,
      (caught: unknown) => caught,
    );
    demand(error instanceof KmsError && error.code === 'AUTHENTICATION_FAILED', `${way.name}: a flipped bit: ${error}`);
    demand(
      (error as KmsError).message === ERROR_TABLE.AUTHENTICATION_FAILED.message,
      `${way.name}: ${(error as KmsError).message}`,
    );
  }
  const otherAad = Buffer.concat([aad ?? Buffer.alloc(0), Buffer.of(0)]);
  const error = await way.decrypt(ours, otherAad).catch((caught: unknown) => caught);
  demand(error instanceof KmsError && error.message === ERROR_TABLE.AUTHENTICATION_FAILED.message, `${way.name}: another AAD`);
}

async function checkAll(raw: Uint8Array, ways: Way[], numRuns: number): Promise<void> {
  const property = fc.asyncProperty(message, (one) => agrees(raw, ways[one.way % ways.length]!, one));
  await fc.assert(property, runs(numRuns));
}

test('node:crypto and every embedded form read each other, and no flipped bit passes', async (t) => {
  const raw = randomBytes(32);
  const { kms, keyIds } = await embeddedWith(t, [raw]);
  const keyId = keyIds[0]!;
  const key = await kms.key(keyId);
  const into = (call: (out: Uint8Array) => number, size: number) => {
    const out = Buffer.alloc(Math.max(0, size));
    demand(call(out) === out.length, 'the length that was written');
    return out;
  };
  const ways: Way[] = [
    {
      name: 'sync',
      encrypt: async (text, aad) => kms.encryptSync(keyId, text, aad),
      decrypt: async (sealed, aad) => kms.decryptSync(keyId, sealed, aad),
    },
    {
      name: 'async',
      encrypt: async (text, aad) => (await kms.encryptWithDek(keyId, text, aad)).ciphertext,
      decrypt: (sealed, aad) => kms.decryptWithDek(keyId, sealed, aad),
    },
    {
      name: 'into',
      encrypt: async (text, aad) => into((out) => key.encryptInto(text, aad, out), text.length + NONCE + TAG),
      decrypt: async (sealed, aad) => into((out) => key.decryptInto(sealed, aad, out), sealed.length - NONCE - TAG),
    },
    {
      name: 'many',
      encrypt: async (text, aad) => result((await kms.encryptMany(keyId, [text, text], [aad, undefined]))[0]),
      decrypt: async (sealed, aad) => result((await kms.decryptMany(keyId, [sealed], aad))[0]),
    },
  ];
  await checkAll(raw, ways, 600);
  t.pass();
});

test('node:crypto and the daemon read each other, and no flipped bit passes', async (t) => {
  const raw = randomBytes(32);
  const { client, keyIds } = await daemonWith(t, [raw]);
  const keyId = keyIds[0]!;
  const ways: Way[] = [
    {
      name: 'socket',
      encrypt: async (text, aad) => (await client.encryptWithDek(keyId, text, aad)).ciphertext,
      decrypt: (sealed, aad) => client.decryptWithDek(keyId, sealed, aad),
    },
    {
      name: 'socket, many',
      encrypt: async (text, aad) => result((await client.encryptMany(keyId, [text, text], [aad, undefined]))[0]),
      decrypt: async (sealed, aad) => result((await client.decryptMany(keyId, [sealed], aad))[0]),
    },
  ];
  await checkAll(raw, ways, 300);
  t.pass();
});

test('node:crypto reads what is large enough for the thread pool, and the other way round', async (t) => {
  const raw = randomBytes(32);
  const { kms, keyIds } = await embeddedWith(t, [raw]);
  for (const size of [262_144, 262_145, 1_000_000]) {
    const text = randomBytes(size);
    const { ciphertext } = await kms.encryptWithDek(keyIds[0]!, text, text.subarray(0, 9));
    t.true(openedByNode(raw, ciphertext, text.subarray(0, 9)).equals(text));
    t.is(Buffer.compare(await kms.decryptWithDek(keyIds[0]!, sealedByNode(raw, text, undefined)), text), 0);
  }
});
