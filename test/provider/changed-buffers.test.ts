import { pbkdf2 } from 'node:crypto';
import { promisify } from 'node:util';
import test from 'ava';
import { INLINE_BYTES, SEALED_HEADER_BYTES } from '../../dist/limits.js';
import { binding } from '../../dist/native.js';
import { bytes, same } from './methods.js';
import { newPlace, openAt, openMemory } from './subjects.js';

const LARGE = INLINE_BYTES + 1;
const POOL_THREADS = Number(process.env.UV_THREADPOOL_SIZE ?? 4);

/** Work for each thread of the pool: what comes after it waits. */
function busyPool(): Promise<unknown> {
  return Promise.all(Array.from({ length: POOL_THREADS }, () => promisify(pbkdf2)('word', 'salt', 20_000, 32, 'sha256')));
}

test('a large message is sealed and opened as it was given, though its key went meanwhile', async (t) => {
  const kms = await openMemory(t);
  const { keyId } = await kms.createDek();
  const plain = bytes(LARGE);
  const aad = bytes(40);
  const { ciphertext } = await kms.encryptWithDek(keyId, plain, aad);
  /** It waits for the pool when its key goes. */
  const started = <T>(call: () => Promise<T>): Promise<T> => {
    const busy = busyPool();
    const made = call();
    binding.retireKey(kms.space, keyId, 'evicted');
    return busy.then(() => made);
  };
  const [given, givenAad] = [Uint8Array.from(plain), Uint8Array.from(aad)];
  const sealing = started(() => kms.encryptWithDek(keyId, given, givenAad));
  given.fill(0);
  givenAad.fill(0);
  const sealed = await sealing;
  t.true(same(await kms.decryptWithDek(keyId, sealed.ciphertext, aad), plain));
  const [takenOver, takenAad] = [Uint8Array.from(ciphertext), Uint8Array.from(aad)];
  const opening = started(() => kms.decryptWithDek(keyId, takenOver, takenAad));
  takenOver.fill(0);
  takenAad.fill(0);
  t.true(same(await opening, plain));
});

test('a message whose key has to be fetched is sealed and opened as it was given', async (t) => {
  const kms = await openMemory(t);
  const { keyId } = await kms.createDek();
  const plain = bytes(100);
  const aad = bytes(40);
  const { ciphertext } = await kms.encryptWithDek(keyId, plain, aad);
  const [given, givenAad] = [Uint8Array.from(plain), Uint8Array.from(aad)];
  binding.retireKey(kms.space, keyId, 'evicted');
  const sealing = kms.encryptWithDek(keyId, given, givenAad);
  given.fill(0);
  givenAad.fill(0);
  t.true(same(await kms.decryptWithDek(keyId, (await sealing).ciphertext, aad), plain));
  const [takenOver, takenAad] = [Uint8Array.from(ciphertext), Uint8Array.from(aad)];
  binding.retireKey(kms.space, keyId, 'evicted');
  const opening = kms.decryptWithDek(keyId, takenOver, takenAad);
  takenOver.fill(0);
  takenAad.fill(0);
  t.true(same(await opening, plain));
});

test('the items of a batch are sealed and opened as they were given, though it has to wait', async (t) => {
  const kms = await openAt(t, newPlace(t));
  const { keyId } = await kms.createDek();
  const forget = async () => {
    await kms.seal();
    await kms.unseal();
  };
  for (const size of [100, LARGE]) {
    for (const isCached of [true, false]) {
      const what = `${size} bytes, cached: ${isCached}`;
      const plains = [bytes(size), bytes(size), bytes(size)];
      const aads = [bytes(40), undefined, bytes(3)];
      const given = plains.map((plain) => Uint8Array.from(plain));
      const givenAads = aads.map((aad) => aad && Uint8Array.from(aad));
      if (!isCached) await forget();
      const sealing = kms.encryptMany(keyId, given, givenAads);
      for (const one of [...given, ...givenAads]) one?.fill(0);
      const sealed = (await sealing) as Uint8Array[];
      const takenOver = sealed.map((one) => Uint8Array.from(one));
      if (!isCached) await forget();
      const opening = kms.decryptMany(keyId, takenOver, aads);
      for (const one of takenOver) one.fill(0);
      const opened = (await opening) as Uint8Array[];
      for (const [index, plain] of plains.entries()) t.true(same(opened[index] as Uint8Array, plain), `${what}, ${index}`);
    }
  }
});

test('the one AAD of a batch that has to wait is what it was when it was given', async (t) => {
  const kms = await openAt(t, newPlace(t));
  const { keyId } = await kms.createDek();
  await kms.seal();
  await kms.unseal();
  const aad = bytes(40);
  const given = Uint8Array.from(aad);
  const sealing = kms.encryptMany(keyId, [bytes(10)], given);
  given.fill(0);
  const [sealed] = await sealing;
  t.is((await kms.decryptWithDek(keyId, sealed as Uint8Array, aad)).length, 10);
});

test('what is sealed under the default key is what it was when it was given, though that key is made first', async (t) => {
  const kms = await openMemory(t);
  const aad = bytes(40);
  const ids: string[] = [];
  for (const size of [100, LARGE, 100]) {
    const plain = bytes(size);
    const [given, givenAad] = [Uint8Array.from(plain), Uint8Array.from(aad)];
    const sealing = kms.encrypt(given, givenAad);
    given.fill(0);
    givenAad.fill(0);
    const sealed = await sealing;
    t.true(same(await kms.decrypt(sealed, aad), plain));
    const id = `k_${Buffer.from(sealed.subarray(1, SEALED_HEADER_BYTES)).toString('hex')}`;
    t.false(ids.includes(id), 'the last one was disabled');
    ids.push(id);
    await kms.disableKey(id);
  }
});
