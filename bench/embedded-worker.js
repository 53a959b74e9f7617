// One process of the embedded figures: every way to seal one message, in alternated blocks. Needs --expose-gc.
// Arguments: floor addon, plaintext bytes, AAD bytes, operations per block, milliseconds per block, scratch directory, path of the product or ''.
import { createCipheriv, createSecretKey, randomBytes, webcrypto } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { gcm } from '@noble/ciphers/aes.js';
import sodium from 'sodium-native';
import { answerMessages, writeMasterKey } from './processes.js';

const [addon, sizeText, aadText, operationsText, millisecondsText, scratch, product] = process.argv.slice(2);
const SIZE = Number(sizeText);
const AAD_BYTES = Number(aadText);
const MOST_OPERATIONS = Number(operationsText);
const BLOCK_MS = Number(millisecondsText);
const OVERHEAD = 28;

const { floor, threadClock } = createRequire(import.meta.url)(addon);
const plaintext = randomBytes(SIZE);
const aad = randomBytes(AAD_BYTES);
const rawKey = randomBytes(32);

/** `run(n)` seals n messages and gives back the nanoseconds it took; `sealed()` is the last ciphertext. */
const variants = {
  floor: () => ({ run: (n) => floor(SIZE, AAD_BYTES, n) * n }),
  'node:crypto': () => {
    const key = createSecretKey(rawKey);
    const seal = () => {
      const iv = randomBytes(12);
      const cipher = createCipheriv('aes-256-gcm', key, iv);
      cipher.setAAD(aad);
      return Buffer.concat([iv, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
    };
    return synchronous(seal);
  },
  WebCrypto: async () => {
    const key = await webcrypto.subtle.importKey('raw', rawKey, 'AES-GCM', false, ['encrypt']);
    const seal = async () => {
      const iv = webcrypto.getRandomValues(new Uint8Array(12));
      const sealed = await webcrypto.subtle.encrypt({ name: 'AES-GCM', iv, additionalData: aad }, key, plaintext);
      return Buffer.concat([iv, Buffer.from(sealed)]);
    };
    return asynchronous(seal);
  },
  'sodium-native': sodiumVariant,
  '@noble/ciphers': () => {
    const seal = () => {
      const iv = randomBytes(12);
      return Buffer.concat([iv, gcm(rawKey, iv, aad).encrypt(plaintext)]);
    };
    return synchronous(seal);
  },
};

/**
 * A loop of its own for each variant: one loop for all would turn the call in it megamorphic and charge the fast ones.
 * `ciphertextOf` takes the ciphertext out of the last result.
 */
function timed(seal, { head, step, clock }, ciphertextOf = (result) => result) {
  const source = `return ${head} => {
    const start = clock();
    for (let i = 0; i < n; i++) state.last = ${step};
    return clock() - start;
  }`;
  const state = { last: undefined };
  const run = new Function('seal', 'state', 'clock', source)(seal, state, clock);
  return { run, sealed: () => ciphertextOf(state.last) };
}

/** By the thread's CPU time, as the floor. What is sealed on other threads would look free by it: promises go by the clock. */
const SYNCHRONOUS = { head: '(n)', step: 'seal()', clock: threadClock };
const ASYNCHRONOUS = { head: 'async (n)', step: 'await seal()', clock: () => performance.now() * 1e6 };
const synchronous = (seal, ciphertextOf) => timed(seal, SYNCHRONOUS, ciphertextOf);
const asynchronous = (seal, ciphertextOf) => timed(seal, ASYNCHRONOUS, ciphertextOf);

/** AES-256-GCM where the binding offers it and the CPU has it, else the fastest it has with a 12-byte nonce. */
function sodiumVariant() {
  const aes = typeof sodium.crypto_aead_aes256gcm_encrypt === 'function' && sodium.crypto_aead_aes256gcm_is_available?.();
  const encrypt = aes ? sodium.crypto_aead_aes256gcm_encrypt : sodium.crypto_aead_chacha20poly1305_ietf_encrypt;
  const seal = () => {
    const out = Buffer.allocUnsafe(SIZE + OVERHEAD);
    const nonce = out.subarray(0, 12);
    sodium.randombytes_buf(nonce);
    encrypt(out.subarray(12), plaintext, aad, null, nonce, rawKey);
    return out;
  };
  return { ...synchronous(seal), algorithm: aes ? 'AES-256-GCM' : 'ChaCha20-Poly1305' };
}

async function addProduct() {
  const { createEmbeddedKms } = await import(product);
  const dir = mkdtempSync(join(scratch, 'embedded-'));
  const kms = await createEmbeddedKms({ dataDir: join(dir, 'data'), masterKeyFile: writeMasterKey(dir) });
  const { keyId } = await kms.createDekForThread('bench');
  const key = await kms.key(keyId);
  const ciphertextOf = (result) => result.ciphertext;
  variants.encryptInto = () => {
    const out = Buffer.alloc(SIZE + OVERHEAD);
    return synchronous(
      () => key.encryptInto(plaintext, aad, out, 0),
      () => out,
    );
  };
  variants.encryptSync = () => synchronous(() => kms.encryptSync(keyId, plaintext, aad));
  variants.encryptWithDek = () => asynchronous(() => kms.encryptWithDek(keyId, plaintext, aad), ciphertextOf);
  return async (sealed) => Buffer.from(await kms.decryptWithDek(keyId, sealed, aad)).equals(plaintext);
}

/** Warms a variant up, checks what it made, and finds how many operations fill a block. */
async function prepare(name, opens) {
  const variant = await variants[name]();
  let n = 1;
  let took = 0;
  while (took < BLOCK_MS * 1e6 && n < MOST_OPERATIONS) {
    n = Math.min(n * 2, MOST_OPERATIONS);
    took = await variant.run(n);
  }
  if (variant.sealed && variant.sealed().length !== SIZE + OVERHEAD) throw new Error(`${name}: not a whole ciphertext`);
  if (opens && name.startsWith('encrypt') && !(await opens(variant.sealed()))) throw new Error(`${name}: does not decrypt`);
  const operations = Math.max(1, Math.min(MOST_OPERATIONS, Math.round((n * BLOCK_MS * 1e6) / took)));
  return { ...variant, name, operations, times: [] };
}

async function block(variant) {
  globalThis.gc();
  return (await variant.run(variant.operations)) / variant.operations;
}

const opens = product ? await addProduct() : undefined;
const prepared = [];
for (const name of Object.keys(variants)) prepared.push(await prepare(name, opens));
const base = prepared.find(({ name }) => name === 'floor');

/** One turn: each variant's block has a block of the floor right before it. Times are nanoseconds per operation. */
answerMessages(async () => {
  const turn = {};
  for (const variant of prepared) {
    if (variant === base) continue;
    turn[variant.name] = { floor: await block(base), ns: await block(variant) };
  }
  return { turn, algorithms: Object.fromEntries(prepared.map(({ name, algorithm }) => [name, algorithm ?? 'AES-256-GCM'])) };
});
