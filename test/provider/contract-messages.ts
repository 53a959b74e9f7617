import type { ExecutionContext, TestFn } from 'ava';
import { KmsError } from '../../dist/errors.js';
import { INLINE_BYTES, MAX_AAD_BYTES, MAX_BATCH_ITEMS, MAX_PLAINTEXT_BYTES } from '../../dist/limits.js';
import type { ItemResult, Provider } from '../../dist/provider.js';
import { bytes, PLAIN, same, UNKNOWN_KEY } from './methods.js';
import { expectError, refused } from './refused.js';
import type { Open } from './subjects.js';

const OVERHEAD = 28;
const HEADER = 17;
const MIB = 1024 * 1024;
const SIZES = [0, 1, 15, 16, 17, INLINE_BYTES, INLINE_BYTES + 1, MIB, MAX_PLAINTEXT_BYTES];

function flipped(data: Uint8Array, at: number): Uint8Array {
  const copy = new Uint8Array(data);
  copy[at]! ^= 1;
  return copy;
}

function opened(t: ExecutionContext, result: ItemResult | undefined, plain: Uint8Array, about?: string): void {
  t.true(result instanceof Uint8Array && same(result, plain), about);
}

function keyIdIn(sealed: Uint8Array): string {
  return `k_${Buffer.from(sealed.subarray(1, HEADER)).toString('hex')}`;
}

export function messageContract(test: TestFn, name: string, open: Open): void {
  test(`${name}: messages of every size come back, by key, by default key and in batches`, async (t) => {
    const { provider } = await open(t);
    const { keyId } = await provider.createDek();
    for (const size of SIZES) {
      const plain = bytes(size);
      const { ciphertext, keyVersion } = await provider.encryptWithDek(keyId, plain, PLAIN);
      t.is(keyVersion, '1');
      t.is(ciphertext.length, size + OVERHEAD);
      opened(t, await provider.decryptWithDek(keyId, ciphertext, PLAIN), plain, `${size}`);
      const sealed = await provider.encrypt(plain, PLAIN);
      t.is(sealed.length, size + OVERHEAD + HEADER);
      opened(t, await provider.decrypt(sealed, PLAIN), plain, `${size} by the default key`);
      const [item] = await provider.encryptMany(keyId, [plain], PLAIN);
      t.is((item as Uint8Array).length, size + OVERHEAD);
      opened(t, (await provider.decryptMany(keyId, [item as Uint8Array], PLAIN))[0], plain, `${size} in a batch`);
      opened(t, await provider.decryptWithDek(keyId, item as Uint8Array, PLAIN), plain, `${size} from a batch`);
    }
  });

  test(`${name}: who transfers the memory of one result takes no other along`, async (t) => {
    const { provider } = await open(t);
    const { keyId } = await provider.createDek();
    const first = await provider.encryptWithDek(keyId, PLAIN);
    const second = await provider.encryptWithDek(keyId, PLAIN);
    const results = [first.ciphertext, await provider.decryptWithDek(keyId, first.ciphertext)];
    for (const { buffer } of results) {
      // Later versions of Node throw, earlier ones copy.
      t.notThrows(() => {
        try {
          structuredClone(buffer, { transfer: [buffer as ArrayBuffer] });
        } catch (error) {
          if ((error as Error).name !== 'DataCloneError') throw error;
        }
      });
    }
    opened(t, await provider.decryptWithDek(keyId, second.ciphertext), PLAIN, 'the neighbour');
    opened(t, results[1], PLAIN, 'the result itself');
  });

  test(`${name}: an AAD may be absent, empty or of 64 KiB, and absent is empty`, async (t) => {
    const { provider } = await open(t);
    const { keyId } = await provider.createDek();
    const largest = bytes(MAX_AAD_BYTES);
    const empty = new Uint8Array(0);
    for (const [sealing, opening] of [
      [undefined, undefined],
      [undefined, empty],
      [empty, undefined],
      [largest, largest],
    ]) {
      const { ciphertext } = await provider.encryptWithDek(keyId, PLAIN, sealing);
      opened(t, await provider.decryptWithDek(keyId, ciphertext, opening), PLAIN);
      const items = (await provider.encryptMany(keyId, [PLAIN], sealing)) as Uint8Array[];
      opened(t, (await provider.decryptMany(keyId, items, opening))[0], PLAIN);
      await refused(t, provider.decryptWithDek(keyId, ciphertext, bytes(3)), 'AUTHENTICATION_FAILED');
    }
  });

  test(`${name}: under the default key the header takes its 17 bytes of the largest AAD`, async (t) => {
    const { provider } = await open(t);
    for (const aad of [undefined, new Uint8Array(0), bytes(1), bytes(MAX_AAD_BYTES - HEADER)]) {
      opened(t, await provider.decrypt(await provider.encrypt(PLAIN, aad), aad), PLAIN);
    }
    await refused(t, provider.encrypt(PLAIN, bytes(MAX_AAD_BYTES - HEADER + 1)), 'TOO_LARGE', /aad/);
  });

  test(`${name}: what is above its limit is refused as too large`, async (t) => {
    const { provider } = await open(t);
    const { keyId } = await provider.createDek();
    const plain = new Uint8Array(MAX_PLAINTEXT_BYTES + 1);
    const aad = new Uint8Array(MAX_AAD_BYTES + 1);
    await refused(t, () => provider.encryptWithDek(keyId, plain), 'TOO_LARGE', /plaintext/);
    await refused(t, () => provider.encrypt(plain), 'TOO_LARGE', /plaintext/);
    await refused(t, () => provider.encryptMany(keyId, [PLAIN, plain]), 'TOO_LARGE', /plaintext/);
    const tooLong = new Uint8Array(MAX_PLAINTEXT_BYTES + OVERHEAD + HEADER + 1).fill(1);
    await refused(t, () => provider.decryptWithDek(keyId, tooLong), 'TOO_LARGE', /ciphertext/);
    await refused(t, () => provider.decrypt(tooLong), 'TOO_LARGE', /ciphertext/);
    await refused(t, () => provider.decryptMany(keyId, [tooLong]), 'TOO_LARGE', /ciphertext/);
    for (const call of [
      () => provider.encryptWithDek(keyId, PLAIN, aad),
      () => provider.decryptWithDek(keyId, PLAIN, aad),
      () => provider.encrypt(PLAIN, aad),
      () => provider.decrypt(PLAIN, aad),
      () => provider.encryptMany(keyId, [PLAIN], aad),
      () => provider.encryptMany(keyId, [PLAIN], [aad]),
      () => provider.decryptMany(keyId, [PLAIN], [aad]),
    ]) {
      await refused(t, call, 'TOO_LARGE', /aad/, String(call));
    }
    const items = Array.from({ length: MAX_BATCH_ITEMS + 1 }, () => new Uint8Array(0));
    await refused(t, () => provider.encryptMany(keyId, items), 'TOO_LARGE', /items/);
    t.is((await provider.encryptMany(keyId, items.slice(1))).length, MAX_BATCH_ITEMS);
  });

  test(`${name}: what is no Uint8Array is refused`, async (t) => {
    const { provider } = await open(t);
    const { keyId } = await provider.createDek();
    for (const wrong of [
      'text',
      7,
      null,
      {},
      [1, 2],
      new Uint16Array(4),
      new ArrayBuffer(40),
      new DataView(new ArrayBuffer(4)),
    ]) {
      const bad = wrong as unknown as Uint8Array;
      const about = Object.prototype.toString.call(wrong);
      await refused(t, () => provider.encryptWithDek(keyId, bad), 'INVALID_ARGUMENT', /plaintext/, about);
      await refused(t, () => provider.decryptWithDek(keyId, bad), 'INVALID_ARGUMENT', /ciphertext/, about);
      await refused(t, () => provider.encrypt(bad), 'INVALID_ARGUMENT', /plaintext/, about);
      await refused(t, () => provider.decrypt(bad), 'INVALID_ARGUMENT', /ciphertext/, about);
      await refused(t, () => provider.encryptWithDek(keyId, PLAIN, bad), 'INVALID_ARGUMENT', /aad/, about);
      await refused(t, () => provider.decrypt(PLAIN, bad), 'INVALID_ARGUMENT', /aad/, about);
      await refused(t, () => provider.encryptMany(keyId, [PLAIN, bad]), 'INVALID_ARGUMENT', /plaintext/, about);
      await refused(t, () => provider.decryptMany(keyId, [PLAIN, bad]), 'INVALID_ARGUMENT', /ciphertext/, about);
      if (!Array.isArray(wrong))
        await refused(t, () => provider.encryptMany(keyId, bad as never), 'INVALID_ARGUMENT', /array/, about);
    }
    await refused(t, () => provider.encryptWithDek(keyId, undefined as never), 'INVALID_ARGUMENT', /plaintext/);
    const { ciphertext } = await provider.encryptWithDek(keyId, Buffer.from([0, ...PLAIN]).subarray(1));
    opened(
      t,
      await provider.decryptWithDek(keyId, Buffer.concat([PLAIN, ciphertext]).subarray(PLAIN.length)),
      PLAIN,
      'views count',
    );
  });

  test(`${name}: whatever does not match fails with one code and one message`, async (t) => {
    const { provider } = await open(t);
    const [{ keyId }, other] = [await provider.createDek(), await provider.createDek()];
    const plain = bytes(40);
    const { ciphertext } = await provider.encryptWithDek(keyId, plain, PLAIN);
    const wrong = [0, 11, 12, 30, ciphertext.length - 16, ciphertext.length - 1].map((at) => flipped(ciphertext, at));
    wrong.push(new Uint8Array(0), bytes(1), bytes(27), bytes(28), ciphertext.subarray(1), ciphertext.subarray(0, -1));
    wrong.push(Buffer.concat([ciphertext, PLAIN]), bytes(INLINE_BYTES + 100));
    for (const bad of wrong) {
      await refused(t, provider.decryptWithDek(keyId, bad, PLAIN), 'AUTHENTICATION_FAILED', undefined, `${bad.length}`);
      expectError(
        t,
        (await provider.decryptMany(keyId, [bad], PLAIN))[0],
        'AUTHENTICATION_FAILED',
        undefined,
        `${bad.length} of many`,
      );
    }
    for (const aad of [undefined, flipped(PLAIN, 0), PLAIN.subarray(1)]) {
      await refused(t, provider.decryptWithDek(keyId, ciphertext, aad), 'AUTHENTICATION_FAILED');
    }
    await refused(t, provider.decryptWithDek(other.keyId, ciphertext, PLAIN), 'AUTHENTICATION_FAILED');
    opened(t, await provider.decryptWithDek(keyId, ciphertext, PLAIN), plain, 'the service goes on');
  });

  test(`${name}: whatever does not match under the default key fails the same way`, async (t) => {
    const { provider } = await open(t);
    const sealed = await provider.encrypt(PLAIN, PLAIN);
    const wrong = Array.from(sealed.keys()).map((at) => flipped(sealed, at));
    wrong.push(new Uint8Array(0), sealed.subarray(0, 44), sealed.subarray(1), sealed.subarray(0, -1), bytes(100));
    for (const [i, bad] of wrong.entries()) {
      await refused(t, provider.decrypt(bad, PLAIN), 'AUTHENTICATION_FAILED', undefined, `${i}`);
    }
    await refused(t, provider.decrypt(sealed), 'AUTHENTICATION_FAILED');
  });

  test(`${name}: no nonce comes twice`, async (t) => {
    const { provider } = await open(t);
    const { keyId } = await provider.createDek();
    const items = await provider.encryptMany(
      keyId,
      Array.from({ length: 3_000 }, () => PLAIN),
    );
    const single = await Promise.all(Array.from({ length: 1_000 }, () => provider.encryptWithDek(keyId, PLAIN)));
    const all = [...(items as Uint8Array[]), ...single.map(({ ciphertext }) => ciphertext)];
    t.is(new Set(all.map((ciphertext) => Buffer.from(ciphertext.subarray(0, 12)).toString('hex'))).size, 4_000);
    t.true((await provider.describeKey(keyId)).usesReserved >= 4_000, 'every encryption was reserved before it was done');
  });

  test(`${name}: a batch keeps its order and each item its own failure`, async (t) => {
    const { provider } = await open(t);
    const { keyId } = await provider.createDek();
    const plains = Array.from({ length: 500 }, (_, i) => bytes(i % 64));
    plains[100] = bytes(INLINE_BYTES + 7);
    const aads = plains.map((_, i) => (i % 3 === 0 ? undefined : bytes(i % 20)));
    const sealed = (await provider.encryptMany(keyId, plains, aads)) as Uint8Array[];
    for (const at of [0, 1, 2, 100]) opened(t, await provider.decryptWithDek(keyId, sealed[at]!, aads[at]), plains[at]!);
    const broken = sealed.map((item, i) =>
      i % 7 === 0 ? flipped(item, i % item.length) : i % 11 === 0 ? item.subarray(0, 20) : item,
    );
    const results = await provider.decryptMany(keyId, broken, aads);
    t.is(results.length, 500);
    for (const [i, result] of results.entries()) {
      if (i % 7 === 0 || i % 11 === 0) expectError(t, result, 'AUTHENTICATION_FAILED', undefined, `${i}`);
      else opened(t, result, plains[i]!, `${i}`);
    }
    const shifted = await provider.decryptMany(keyId, sealed.slice(0, 6), [...aads.slice(1, 6), bytes(9)]);
    t.true(
      shifted.every((item) => item instanceof KmsError),
      'each item needs its own AAD',
    );
  });

  test(`${name}: a batch may be empty, and needs its key and an AAD for each item all the same`, async (t) => {
    const { provider } = await open(t);
    const { keyId } = await provider.createDek();
    t.deepEqual(await provider.encryptMany(keyId, []), []);
    t.deepEqual(await provider.decryptMany(keyId, [], []), []);
    await refused(t, provider.encryptMany(UNKNOWN_KEY, []), 'KEY_NOT_FOUND');
    await refused(t, () => provider.encryptMany(keyId, [PLAIN], []), 'INVALID_ARGUMENT', /aad/);
    await refused(t, () => provider.decryptMany(keyId, [PLAIN], [PLAIN, PLAIN]), 'INVALID_ARGUMENT', /aad/);
    await refused(t, () => provider.encryptMany(keyId, [PLAIN], ['x'] as never), 'INVALID_ARGUMENT', /aad/);
  });

  test(`${name}: a ciphertext under the default key names its key and is one of that key`, async (t) => {
    const { provider } = await open(t);
    const [one, two] = [await provider.encrypt(PLAIN), await provider.encrypt(PLAIN, bytes(5))];
    t.is(one[0], 1);
    t.is(keyIdIn(one), keyIdIn(two));
    t.deepEqual(
      (await provider.listKeys()).keys.map((key) => [key.keyId, key.threadId]),
      [[keyIdIn(one), null]],
    );
    opened(t, await provider.decryptWithDek(keyIdIn(one), one.subarray(HEADER), one.subarray(0, HEADER)), PLAIN);
  });

  test(`${name}: a default key that is disabled or destroyed is succeeded, and speaks for its ciphertexts`, async (t) => {
    const { provider } = await open(t);
    const first = await provider.encrypt(PLAIN);
    await provider.disableKey(keyIdIn(first));
    const many = await Promise.all(Array.from({ length: 20 }, () => provider.encrypt(PLAIN)));
    t.is(new Set(many.map(keyIdIn)).size, 1, 'one successor, however many ask');
    t.not(keyIdIn(many[0]!), keyIdIn(first));
    await refused(t, provider.decrypt(first), 'KEY_DISABLED');
    await provider.destroyKey(keyIdIn(first));
    await refused(t, provider.decrypt(first), 'KEY_DESTROYED');
    await provider.disableKey(keyIdIn(many[0]!));
    await provider.destroyKey(keyIdIn(many[0]!));
    const third = await provider.encrypt(PLAIN);
    t.not(keyIdIn(third), keyIdIn(many[0]!));
    opened(t, await provider.decrypt(third), PLAIN);
  });

  for (const size of [100, INLINE_BYTES + 100]) {
    test(`${name}: results of ${size} bytes are nobody else's memory`, async (t) => {
      const { provider } = await open(t);
      await resultsStandAlone(t, provider, size);
    });
  }
}

/** Overwrites every input after its call and every result after the next one, and looks whether anything else changes. */
async function resultsStandAlone(t: ExecutionContext, provider: Provider, size: number): Promise<void> {
  const { keyId } = await provider.createDek();
  const plain = bytes(size);
  const given = new Uint8Array(plain);
  const aad = new Uint8Array(PLAIN);
  const calls = [provider.encryptWithDek(keyId, given, aad).then((r) => r.ciphertext), provider.encrypt(given, aad)];
  calls.push(provider.encryptMany(keyId, [given], aad).then((r) => r[0] as Uint8Array));
  const [one, two, three] = (await Promise.all(calls)) as [Uint8Array, Uint8Array, Uint8Array];
  given.fill(0);
  aad.fill(0);
  opened(t, await provider.decryptWithDek(keyId, one, PLAIN), plain);
  opened(t, await provider.decrypt(two, PLAIN), plain);
  opened(t, await provider.decryptWithDek(keyId, three, PLAIN), plain);
  const sealed = new Uint8Array(one);
  const first = await provider.decryptWithDek(keyId, sealed, PLAIN);
  const second = await provider.decryptWithDek(keyId, sealed, PLAIN);
  sealed.fill(0);
  opened(t, first, plain, 'the input was overwritten');
  second.fill(0xff);
  opened(t, first, plain, 'another result was overwritten');
  for (let i = 0; i < 600; i += 1) await provider.decryptWithDek(keyId, one, PLAIN);
  opened(t, first, plain, 'many results came after it');
}
