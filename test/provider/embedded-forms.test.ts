import test, { type ExecutionContext } from 'ava';
import type { EmbeddedKms } from '../../dist/create.js';
import { INLINE_BYTES, MAX_AAD_BYTES, MAX_PLAINTEXT_BYTES } from '../../dist/limits.js';
import { bytes, PLAIN, same, UNKNOWN_KEY } from './methods.js';
import { refused, refusedSync } from './refused.js';
import { newPlace, openAt, openMemory } from './subjects.js';

const OVERHEAD = 28;
const MISFIT = /^out is too small for the result at this offset, or overlaps what is read$/;

/** The blocking forms: by key id, and on a resolved key. */
async function forms(t: ExecutionContext, kms?: EmbeddedKms) {
  const provider = kms ?? (await openMemory(t));
  const { keyId } = await provider.createDek();
  const key = await provider.key(keyId);
  const byId = {
    name: 'by id',
    encryptSync: (plain: Uint8Array, aad?: Uint8Array) => provider.encryptSync(keyId, plain, aad),
    decryptSync: (sealed: Uint8Array, aad?: Uint8Array) => provider.decryptSync(keyId, sealed, aad),
    encryptInto: (plain: Uint8Array, aad: Uint8Array | undefined, out: Uint8Array, offset?: number) =>
      provider.encryptInto(keyId, plain, aad, out, offset),
    decryptInto: (sealed: Uint8Array, aad: Uint8Array | undefined, out: Uint8Array, offset?: number) =>
      provider.decryptInto(keyId, sealed, aad, out, offset),
  };
  const ofKey = {
    name: 'of a key',
    encryptSync: key.encryptSync.bind(key),
    decryptSync: key.decryptSync.bind(key),
    encryptInto: key.encryptInto.bind(key),
    decryptInto: key.decryptInto.bind(key),
  };
  return { kms: provider, keyId, key, both: [byId, ofKey] };
}

test('the blocking forms and the asynchronous ones read each other', async (t) => {
  const { kms, keyId, both } = await forms(t);
  for (const size of [0, 1, 15, 16, 17, 65_535, 65_536, INLINE_BYTES, INLINE_BYTES + 1, MAX_PLAINTEXT_BYTES]) {
    const plain = bytes(size);
    const { ciphertext } = await kms.encryptWithDek(keyId, plain, PLAIN);
    for (const form of both) {
      t.true(same(form.decryptSync(ciphertext, PLAIN), plain), `${form.name} ${size}`);
      const sealed = form.encryptSync(plain, PLAIN);
      t.is(sealed.length, size + OVERHEAD);
      t.true(same(await kms.decryptWithDek(keyId, sealed, PLAIN), plain), `${form.name} ${size}`);
      const out = Buffer.alloc(size + OVERHEAD);
      t.is(form.encryptInto(plain, PLAIN, out), size + OVERHEAD);
      const back = Buffer.alloc(size);
      t.is(form.decryptInto(out, PLAIN, back), size);
      t.true(same(back, plain), `${form.name} ${size}`);
    }
  }
});

test('a result is written at its offset and nowhere else', async (t) => {
  const { both } = await forms(t);
  const plain = bytes(100);
  for (const form of both) {
    for (const offset of [0, 1, 7, 64]) {
      const out = Buffer.alloc(offset + plain.length + OVERHEAD + 9, 0xaa);
      const end = offset + form.encryptInto(plain, undefined, out, offset);
      t.is(end, offset + plain.length + OVERHEAD);
      t.true(
        [...out.subarray(0, offset), ...out.subarray(end)].every((byte) => byte === 0xaa),
        `${form.name} ${offset}`,
      );
      const back = Buffer.alloc(offset + plain.length + 9, 0xbb);
      t.is(form.decryptInto(out.subarray(offset, end), undefined, back, offset), plain.length);
      t.true(same(back.subarray(offset, offset + plain.length), plain));
      const around = [...back.subarray(0, offset), ...back.subarray(offset + plain.length)];
      t.true(
        around.every((byte) => byte === 0xbb),
        `${form.name} ${offset}`,
      );
    }
  }
});

test('a result that does not fit is refused and nothing is written', async (t) => {
  const { both } = await forms(t);
  const plain = bytes(40);
  for (const form of both) {
    const sealed = form.encryptSync(plain);
    for (const [size, offset] of [
      [0, 0],
      [67, 0],
      [68, 1],
      [100, 33],
      [100, 100],
      [100, 101],
      [100, 2 ** 31],
      [100, 2 ** 32],
      [100, -1],
    ] as const) {
      const out = Buffer.alloc(size, 0xaa);
      refusedSync(
        t,
        () => form.encryptInto(plain, undefined, out, offset),
        'INVALID_ARGUMENT',
        MISFIT,
        `${form.name} ${size} ${offset}`,
      );
      t.true(out.every((byte) => byte === 0xaa));
    }
    for (const [size, offset] of [
      [39, 0],
      [40, 1],
      [100, 61],
      [100, 101],
      [100, 2 ** 32],
      [100, -1],
    ] as const) {
      const out = Buffer.alloc(size, 0xaa);
      refusedSync(
        t,
        () => form.decryptInto(sealed, undefined, out, offset),
        'INVALID_ARGUMENT',
        MISFIT,
        `${form.name} ${size} ${offset}`,
      );
      t.true(out.every((byte) => byte === 0xaa));
    }
  }
});

test('a result may lie beside what is read but not over it', async (t) => {
  const { both } = await forms(t);
  for (const form of both) {
    const memory = Buffer.alloc(400, 1);
    const at = (start: number, end: number) => memory.subarray(start, end);
    const overlapping: Array<() => number> = [
      () => form.encryptInto(at(100, 140), undefined, memory, 100),
      () => form.encryptInto(at(100, 140), undefined, memory, 139),
      () => form.encryptInto(at(100, 140), undefined, memory, 33),
      () => form.encryptInto(at(0, 40), at(150, 160), memory, 100),
      () => form.decryptInto(at(100, 168), undefined, memory, 100),
      () => form.decryptInto(at(100, 168), undefined, memory, 61),
      () => form.decryptInto(at(0, 68), at(110, 111), memory, 100),
    ];
    for (const call of overlapping) refusedSync(t, call, 'INVALID_ARGUMENT', MISFIT, `${form.name} ${call}`);
    t.true(
      memory.every((byte) => byte === 1),
      'nothing was written',
    );
    t.is(form.encryptInto(at(100, 140), at(0, 10), memory, 140), 68);
    t.is(form.encryptInto(at(100, 140), at(0, 10), memory, 32), 68);
    t.is(form.decryptInto(at(140, 208), at(0, 10), memory, 208), 40);
    t.true(same(at(208, 248), at(100, 140)));
  }
});

test('wrong types are refused, never followed', async (t) => {
  const { kms, keyId, both } = await forms(t);
  const out = Buffer.alloc(200);
  const detached = new Uint8Array(50);
  structuredClone(detached, { transfer: [detached.buffer] });
  const wrongs = [
    'text',
    7,
    null,
    undefined,
    {},
    [1],
    Symbol('s'),
    1n,
    () => 1,
    new Uint16Array(9),
    new ArrayBuffer(50),
    new DataView(out.buffer),
  ];
  for (const form of both) {
    const sealed = form.encryptSync(PLAIN);
    for (const wrong of wrongs as unknown as Uint8Array[]) {
      const about = `${form.name} ${Object.prototype.toString.call(wrong)}`;
      refusedSync(t, () => form.encryptSync(wrong), 'INVALID_ARGUMENT', /^plaintext/, about);
      refusedSync(t, () => form.decryptSync(wrong), 'INVALID_ARGUMENT', /^ciphertext/, about);
      refusedSync(t, () => form.encryptInto(wrong, undefined, out), 'INVALID_ARGUMENT', /^plaintext/, about);
      refusedSync(t, () => form.decryptInto(wrong, undefined, out), 'INVALID_ARGUMENT', /^ciphertext/, about);
      refusedSync(t, () => form.encryptInto(PLAIN, undefined, wrong), 'INVALID_ARGUMENT', /^out/, about);
      refusedSync(t, () => form.decryptInto(sealed, undefined, wrong), 'INVALID_ARGUMENT', /^out/, about);
      if (wrong === undefined || wrong === null) continue;
      refusedSync(t, () => form.encryptSync(PLAIN, wrong), 'INVALID_ARGUMENT', /^aad/, about);
      refusedSync(t, () => form.encryptInto(PLAIN, wrong, out), 'INVALID_ARGUMENT', /^aad/, about);
      refusedSync(t, () => form.decryptInto(sealed, wrong, out), 'INVALID_ARGUMENT', /^aad/, about);
    }
    for (const offset of ['1', {}, true, 1.5, Number.NaN, null, 1n] as unknown as number[]) {
      refusedSync(t, () => form.encryptInto(PLAIN, undefined, out, offset), 'INVALID_ARGUMENT', MISFIT, `${form.name} ${offset}`);
    }
    t.is(form.encryptSync(detached).length, OVERHEAD, 'detached memory is empty');
    refusedSync(t, () => form.encryptInto(PLAIN, undefined, detached), 'INVALID_ARGUMENT', MISFIT);
  }
  for (const wrong of [7, null, undefined, {}, '', 'k_X'] as unknown as string[]) {
    refusedSync(t, () => kms.encryptSync(wrong, PLAIN), 'INVALID_ARGUMENT', /^key id$/);
    refusedSync(t, () => kms.encryptInto(wrong, PLAIN, undefined, out), 'INVALID_ARGUMENT', /^key id$/);
    await refused(t, kms.key(wrong), 'INVALID_ARGUMENT', /^key id$/);
  }
  refusedSync(t, () => kms.decryptSync(UNKNOWN_KEY, PLAIN), 'KEY_NOT_FOUND');
  refusedSync(t, () => kms.decryptInto(UNKNOWN_KEY, PLAIN, undefined, out), 'KEY_NOT_FOUND');
  await refused(t, kms.key(UNKNOWN_KEY), 'KEY_NOT_FOUND');
  t.is(kms.decryptSync(keyId, kms.encryptSync(keyId, PLAIN)).length, PLAIN.length, 'the service goes on');
});

test('the blocking forms have the limits of the others', async (t) => {
  const { both } = await forms(t);
  const plain = new Uint8Array(MAX_PLAINTEXT_BYTES + 1);
  const aad = new Uint8Array(MAX_AAD_BYTES + 1);
  const out = Buffer.alloc(plain.length + OVERHEAD + 1);
  for (const form of both) {
    refusedSync(t, () => form.encryptSync(plain), 'TOO_LARGE', /plaintext/);
    refusedSync(t, () => form.encryptInto(plain, undefined, out), 'TOO_LARGE', /plaintext/);
    refusedSync(t, () => form.decryptSync(out), 'TOO_LARGE', /ciphertext/);
    refusedSync(t, () => form.encryptSync(PLAIN, aad), 'TOO_LARGE', /aad/);
    refusedSync(t, () => form.encryptInto(PLAIN, aad, out), 'TOO_LARGE', /aad/);
    refusedSync(t, () => form.decryptSync(PLAIN, aad), 'TOO_LARGE', /aad/);
    t.is(form.decryptSync(form.encryptSync(PLAIN, aad.subarray(1)), aad.subarray(1)).length, PLAIN.length);
  }
});

test('what does not match releases nothing into the buffer of the caller', async (t) => {
  const { both } = await forms(t);
  const plain = bytes(500);
  for (const form of both) {
    const sealed = form.encryptSync(plain, PLAIN);
    sealed[200]! ^= 1;
    const out = Buffer.alloc(plain.length);
    refusedSync(t, () => form.decryptInto(sealed, PLAIN, out), 'AUTHENTICATION_FAILED');
    t.true(out.every((byte) => byte === 0));
    refusedSync(t, () => form.decryptSync(sealed, PLAIN), 'AUTHENTICATION_FAILED');
    refusedSync(t, () => form.decryptInto(sealed.subarray(0, 27), PLAIN, out), 'AUTHENTICATION_FAILED');
  }
});

test('blocking calls that never let the event loop run get their uses all the same', async (t) => {
  const { kms, keyId, both } = await forms(t, await openAt(t, newPlace(t)));
  const out = Buffer.alloc(64);
  for (let i = 0; i < 5_000; i += 1) both[i % 2]!.encryptInto(PLAIN, undefined, out);
  for (let i = 0; i < 5_000; i += 1) both[i % 2]!.encryptSync(PLAIN);
  t.true((await kms.describeKey(keyId)).usesReserved >= 10_000);
});

test('a resolved key stays good when it is evicted, and knows its state', async (t) => {
  const kms = await openAt(t, newPlace(t), { cachedKeys: 2 });
  const { keyId } = await kms.createDek();
  const key = await kms.key(keyId);
  const out = Buffer.alloc(64);
  const sealed = key.encryptSync(PLAIN);
  const evict = async () => {
    for (let i = 0; i < 4; i += 1) await kms.createDek();
  };
  for (const call of [
    () => key.encryptInto(PLAIN, undefined, out),
    () => key.decryptInto(sealed, undefined, out),
    () => key.encryptSync(PLAIN),
    () => key.decryptSync(sealed),
  ]) {
    await evict();
    t.notThrows(call);
    t.notThrows(call, 'and again, now that it is back');
    await kms.disableKey(keyId);
    refusedSync(t, call, 'KEY_DISABLED');
    await evict();
    refusedSync(t, call, 'KEY_DISABLED', undefined, 'evicted');
    await kms.enableKey(keyId);
    t.notThrows(call);
  }
  await kms.disableKey(keyId);
  const whileDisabled = await kms.key(keyId);
  refusedSync(t, () => whileDisabled.encryptSync(PLAIN), 'KEY_DISABLED');
  await kms.destroyKey(keyId);
  for (const one of [key, whileDisabled]) {
    refusedSync(t, () => one.encryptInto(PLAIN, undefined, out), 'KEY_DESTROYED');
    refusedSync(t, () => one.decryptSync(sealed), 'KEY_DESTROYED');
  }
});

test('a resolved key of a sealed or closed provider is refused and one of before the seal serves after the unseal', async (t) => {
  const { kms, key, both } = await forms(t, await openAt(t, newPlace(t)));
  const out = Buffer.alloc(64);
  const sealed = key.encryptSync(PLAIN);
  await kms.seal();
  for (const form of both) {
    refusedSync(t, () => form.encryptSync(PLAIN), 'SEALED', undefined, form.name);
    refusedSync(t, () => form.encryptInto(PLAIN, undefined, out), 'SEALED', undefined, form.name);
    refusedSync(t, () => form.decryptInto(sealed, undefined, out), 'SEALED', undefined, form.name);
  }
  await kms.unseal();
  for (const form of both) t.true(same(form.decryptSync(sealed), PLAIN), form.name);
  await kms.close();
  for (const form of both) refusedSync(t, () => form.encryptSync(PLAIN), 'SEALED', /closed/);
});

test('what is no key id finds no key, whichever was used before', async (t) => {
  const kms = await openMemory(t);
  const { keyId } = await kms.createDek();
  const sealed = kms.encryptSync(keyId, PLAIN);
  for (const wrong of [undefined, null, '', 7, {}] as unknown as string[]) {
    // Before and after the last key was forgotten.
    for (const use of [() => kms.encryptSync(keyId, PLAIN), () => kms.createDek()]) {
      await use();
      t.throws(() => kms.encryptSync(wrong, PLAIN), { message: /^invalid argument/ }, String(wrong));
      t.throws(() => kms.decryptSync(wrong, sealed), { message: /^invalid argument/ }, String(wrong));
    }
  }
});

// Alone: it takes the results of others, who hold theirs in the same memory, away with it.
test.serial('who gives the memory of a result away stops nobody else', async (t) => {
  const { kms, keyId } = await forms(t);
  const give = (result: Uint8Array) => {
    const { buffer } = result as { buffer: ArrayBuffer & { transfer?: () => ArrayBuffer } };
    // A Node without `transfer` has no way to do it, and one may refuse it.
    if (typeof buffer.transfer !== 'function') return t.log('SKIPPED: this Node has no ArrayBuffer.prototype.transfer');
    try {
      buffer.transfer();
    } catch (error) {
      t.true(error instanceof TypeError);
    }
  };
  give(kms.encryptSync(keyId, PLAIN));
  const sealed = kms.encryptSync(keyId, PLAIN);
  give(kms.decryptSync(keyId, sealed));
  give(kms.decryptSync(keyId, kms.encryptSync(keyId, new Uint8Array(0))));
  t.deepEqual(Buffer.from(kms.decryptSync(keyId, sealed)), Buffer.from(PLAIN));
});

test('results that are held stay what they are, however many come after them', async (t) => {
  const { kms, keyId } = await forms(t);
  const plains = Array.from({ length: 300 }, (_, i) => bytes(1 + 7 * i));
  const held = plains.map((plain) => kms.encryptSync(keyId, plain));
  const copies = held.map((sealed) => Buffer.from(sealed));
  const opened = held.map((sealed) => kms.decryptSync(keyId, sealed));
  for (let i = 0; i < 300; i += 1) kms.decryptSync(keyId, kms.encryptSync(keyId, bytes(1_000)));
  t.true(held.every((sealed, i) => copies[i]!.equals(sealed)));
  t.true(opened.every((plain, i) => Buffer.from(plains[i]!).equals(plain)));
});

test('what surrounds a result in its memory is other results of its kind or zeroes', async (t) => {
  const { kms, keyId } = await forms(t);
  const plain = Buffer.alloc(2_000, 'a plaintext nobody is to see ');
  const sealed = kms.encryptSync(keyId, plain);
  for (let i = 0; i < 100; i += 1) kms.decryptSync(keyId, sealed);
  for (let i = 0; i < 100; i += 1) t.false(Buffer.from(kms.encryptSync(keyId, plain).buffer).includes('nobody'));
  t.true(Buffer.from(kms.decryptSync(keyId, sealed).buffer).includes('nobody'));
});

test('a batch is what it was when it was given, whatever becomes of its array meanwhile', async (t) => {
  const { kms, keyId } = await forms(t);
  // The first one is on its way through the pool while the array changes.
  const plains: Uint8Array[] = [bytes(INLINE_BYTES + 1), PLAIN, bytes(10)];
  const aads: Array<Uint8Array | undefined> = [undefined, PLAIN, undefined];
  const kept = [...plains];
  const batch = kms.encryptMany(keyId, plains, aads);
  plains.splice(1, 2, 'no message' as unknown as Uint8Array);
  aads.length = 0;
  const sealed = await batch;
  t.is(sealed.length, 3);
  for (const [index, one] of sealed.entries()) {
    const aad = index === 1 ? PLAIN : undefined;
    t.deepEqual(kms.decryptSync(keyId, one as Uint8Array, aad), new Uint8Array(kept[index] as Uint8Array));
  }
});

test('a long batch of small messages lets others have their turns', async (t) => {
  const { kms, keyId } = await forms(t);
  let turns = 0;
  const timer = setImmediate(function count() {
    turns += 1;
    next = setImmediate(count);
  });
  let next = timer;
  const results = await kms.encryptMany(keyId, new Array(1_000).fill(bytes(4_096)));
  clearImmediate(next);
  t.is(results.length, 1_000);
  t.true(turns >= Math.floor((1_000 * 4_096) / INLINE_BYTES) - 1, `${turns} turns`);
});
