import { randomInt } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import { KmsError } from '../../dist/errors.js';
import type { KeyStore } from '../../dist/store/key-store.js';
import { openMemoryStore } from '../../dist/store/memory.js';
import { crashingAt, filled, K1, K2, kekVersions, openOn, opensAll, rotated, STORES, storeWith } from './stores.js';

async function backupsOf(store: KeyStore): Promise<string[]> {
  const all: string[] = [];
  for (const rotationId of await store.backups.list())
    all.push(...(await store.backups.listKeyIds(rotationId, undefined, 10_000)));
  return all;
}

for (const [where, openStore] of STORES)
  test(`creates, encryptions, destroys, disables and enables during a rotation ${where}: all exact, all on the new KEK, one backup each`, async (t) => {
    const seed = randomInt(2 ** 31);
    t.log(`seed ${seed}`);
    const store = await openStore(t);
    const kms = await openOn(t, store, K1);
    const messages = await filled(kms, 400);
    const before = new Set(messages.map(({ keyId }) => keyId));
    const begun = kms.rotateKek({ wait: true });
    const [destroyed, disabled, enabled] = [messages.slice(0, 40), messages.slice(40, 80), messages.slice(80, 120)];
    const live = messages.slice(80);
    const made = filled(kms, 100);
    const used = live.map(async (message, index) => {
      if ((index + seed) % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
      const { ciphertext } = await kms.encryptWithDek(message.keyId, message.plaintext);
      return { ...message, ciphertext };
    });
    const [later] = await Promise.all([
      Promise.all(used),
      ...destroyed.map(({ keyId }) => kms.disableKey(keyId).then(() => kms.destroyKey(keyId))),
      ...disabled.map(({ keyId }) => kms.disableKey(keyId)),
      ...enabled.map(async ({ keyId }, index) => {
        if (index % 2 === 0) await kms.setKeyState(keyId, 'active');
      }),
    ]);
    const status = await begun;
    t.like(status, { state: 'idle', kekVersion: '2', blockedBy: [], error: null });
    await opensAll(t, kms, [...live, ...later, ...(await made)]);
    const versions = await kekVersions(store);
    for (const { keyId } of destroyed) versions.delete(keyId);
    t.deepEqual([...new Set(versions.values())], [2]);
    t.is(versions.size, 460);
    const kept = await backupsOf(store);
    t.is(new Set(kept).size, kept.length, 'one backup for each');
    const gone = new Set(destroyed.map(({ keyId }) => keyId));
    t.deepEqual(
      kept.filter((keyId) => before.has(keyId)).sort(),
      [...before].filter((keyId) => !gone.has(keyId)).sort(),
      'and none of a destroyed key',
    );
    for (const { keyId, ciphertext } of disabled) {
      await t.throwsAsync(kms.decryptWithDek(keyId, ciphertext), { code: 'KEY_DISABLED' });
      await kms.enableKey(keyId);
    }
    await opensAll(t, kms, disabled);
    for (const { keyId } of [live[0]!, ...live.slice(-5)]) {
      t.is((await kms.encryptWithDek(keyId, Buffer.from('x'))).keyVersion, '2', 'a key that was in the vault meanwhile, too');
    }
    await kms.close();
    const again = await openOn(t, store, K1);
    await opensAll(t, again, [...live, ...later, ...disabled, ...(await made)], 'after a restart');
  });

for (const [where, openStore] of STORES)
  for (const isAfter of [false, true]) {
    test(`a process that dies ${isAfter ? 'after' : 'before'} any one write of a rotation ${where}: the next start ends it`, async (t) => {
      let isThrough = false;
      for (let nth = 1; !isThrough; nth += 1) {
        const disk = await openStore(t);
        const first = await openOn(t, disk, K1);
        const messages = await filled(first, 5);
        await first.disableKey(messages[0]!.keyId);
        await first.close();
        // Its own wraps are reserved when it makes its first key: those writes are not the rotation's.
        const crash = crashingAt(disk, nth, isAfter);
        const second = await openOn(t, crash.store, K1);
        const status = await second.rotateKek({ newKekHex: K2, wait: true }).catch((error) => error);
        isThrough = crash.writes() < nth;
        if (isThrough) t.is(status.state, 'idle');
        // Abandoned as it is: what it holds in memory is gone with it.
        void second.close().catch(() => undefined);
        for (const master of nth % 2 === 0 ? [K2, K1] : [K1]) await startsWith(t, disk, master, messages, `write ${nth}`);
        if (nth > 100) return t.fail('it never ends');
      }
      t.pass();
    });
  }

/** A start with this key, if the store knows it: every message opens, no rotation is left, and no KEK of it. */
async function startsWith(
  t: ExecutionContext,
  disk: KeyStore,
  master: string,
  messages: Awaited<ReturnType<typeof filled>>,
  about: string,
) {
  const kms = await openOn(t, disk, master).catch((error) => error as KmsError);
  if (kms instanceof KmsError) {
    // Either the rotation died before it brought the key, or the other one has started and taken its place.
    t.is(kms.code, 'UNAUTHENTICATED', about);
    return;
  }
  const status = await rotated(kms);
  t.like(status, { state: 'idle', blockedBy: [], error: null }, about);
  await kms.enableKey(messages[0]!.keyId);
  await opensAll(t, kms, messages, about);
  const { keks } = (await disk.readKeyring())!;
  t.is(keks.length, 1, about);
  t.deepEqual([...new Set((await kekVersions(disk)).values())], [keks[0]!.kekVersion], about);
  if (status.kekVersion === '2') {
    const [rotationId] = await disk.backups.list();
    for (const { keyId } of messages) t.is((await disk.backups.read(rotationId!, keyId))?.kekVersion, 1, `${about}: its backup`);
  }
  await kms.disableKey(messages[0]!.keyId);
  await kms.close();
}

test('a store that fails in the middle has the rotation fail and say so, and it goes on when it is asked again', async (t) => {
  const disk = openMemoryStore();
  let fault: string | undefined;
  let replaced = 0;
  const store = storeWith(disk, (name, real) => {
    if (name === 'replaceRecord' && ++replaced === 3) fault = 'EIO at write';
    if (fault !== undefined) throw new KmsError('STORE_UNAVAILABLE', fault);
    return real();
  });
  const kms = await openOn(t, store, K1);
  const messages = await filled(kms, 8);
  const failed = await kms.rotateKek({ wait: true });
  t.like(failed, { state: 'failed', phase: 'rewrap', kekVersion: '2' });
  t.regex(failed.error ?? '', /EIO at write/);
  await opensAll(t, kms, messages, 'while it has failed');
  fault = undefined;
  await t.throwsAsync(kms.rotateKek({ newKekHex: K2 }), { code: 'CONFLICT' }, 'a new master key is a second rotation');
  const status = await kms.rotateKek({ wait: true });
  t.like(status, { state: 'idle', error: null, kekVersion: '2', rotationId: failed.rotationId });
  await opensAll(t, kms, messages);
});

test('a rotation that is sealed away writes nothing more, and goes on after the unseal', async (t) => {
  const disk = openMemoryStore();
  let isSealed = false;
  const late: string[] = [];
  const store = storeWith(disk, (name, real) => {
    if (isSealed) late.push(name);
    return real();
  });
  const kms = await openOn(t, store, K1);
  const messages = await filled(kms, 60);
  await kms.rotateKek({ keysPerSecond: 5 });
  while ((await kms.rotationStatus()).done < 2) await new Promise((resolve) => setTimeout(resolve, 10));
  await kms.seal();
  isSealed = true;
  await t.throwsAsync(kms.rotationStatus(), { code: 'SEALED' });
  await new Promise((resolve) => setTimeout(resolve, 200));
  t.deepEqual(late, []);
  isSealed = false;
  const versions = [...(await kekVersions(disk)).values()];
  t.true(versions.includes(1) && versions.includes(2), `it was in the middle of it: ${versions}`);
  await kms.close();
  const again = await openOn(t, disk, K1);
  t.like(await rotated(again), { state: 'idle', kekVersion: '2' });
  await opensAll(t, again, messages);
});

test('waiting for a rotation that is sealed away ends with SEALED', async (t) => {
  const kms = await openOn(t, openMemoryStore(), K1);
  await filled(kms, 30);
  const waiting = t.throwsAsync(kms.rotateKek({ wait: true, keysPerSecond: 1 }), { code: 'SEALED' });
  await new Promise((resolve) => setTimeout(resolve, 50));
  await kms.seal();
  await waiting;
});

test('a key that was made under the KEK of before is waited for and moved', async (t) => {
  const disk = openMemoryStore();
  let release: () => void = () => {};
  const held = new Promise<void>((resolve) => (release = resolve));
  let isHolding = false;
  const store = storeWith(disk, (name, real) => (name === 'createRecord' && isHolding ? held.then(() => real()) : real()));
  const kms = await openOn(t, store, K1);
  await filled(kms, 2);
  isHolding = true;
  const creating = kms.createDekForThread('slow');
  await new Promise((resolve) => setImmediate(resolve));
  isHolding = false;
  const begun = await kms.rotateKek();
  t.is(begun.kekVersion, '2');
  while ((await kms.rotationStatus()).phase !== 'drain') await new Promise((resolve) => setTimeout(resolve, 1));
  await new Promise((resolve) => setTimeout(resolve, 30));
  t.is((await kms.rotationStatus()).phase, 'drain', 'it waits');
  t.is((await kms.createDekForThread('next')).kekVersion, '2', 'others are not held up');
  release();
  t.is((await creating).kekVersion, '1');
  await rotated(kms);
  t.deepEqual([...new Set((await kekVersions(disk)).values())], [2]);
});

test('wraps are counted for the KEK that they were made under, across the switch', async (t) => {
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1, { keysPerSecond: 1 });
  await filled(kms, 65);
  const before = (await store.readKeyring())!.keks;
  t.true(before[0]!.wrapsReserved >= 65);
  await kms.rotateKek();
  await Promise.all(Array.from({ length: 70 }, () => kms.createDek()));
  const [old, active] = (await store.readKeyring())!.keks;
  t.is(old!.state, 'decrypt-only');
  t.is(old!.wrapsReserved, before[0]!.wrapsReserved, 'nothing was wrapped under it any more');
  t.is(active!.state, 'active');
  t.true(active!.wrapsReserved >= 70);
});

test('as many backups stay as are to be kept, the newest ones', async (t) => {
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1, { keepBackups: 2 });
  await filled(kms, 3);
  for (let n = 0; n < 4; n += 1) await kms.rotateKek({ wait: true });
  t.deepEqual(
    (await store.backups.list()).map((rotationId) => rotationId.split('-')[0]),
    ['r4', 'r5'],
  );
});

test('what a rotation that never began has kept takes no place from the backups of one that ended', async (t) => {
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1);
  await filled(kms, 3);
  await store.backups.keepKeyring(`r2-${'f'.repeat(16)}`);
  const { rotationId } = await kms.rotateKek({ wait: true });
  t.deepEqual(await store.backups.list(), [rotationId!]);
});

test('an empty store is rotated, too', async (t) => {
  const kms = await openOn(t, openMemoryStore(), K1);
  t.like(await kms.rotateKek({ wait: true }), { state: 'idle', total: 0, done: 0, kekVersion: '2' });
});

test('a destroyed key is in no backup of any rotation', async (t) => {
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1, { keepBackups: 5 });
  const [first, second] = await filled(kms, 2);
  for (let n = 0; n < 2; n += 1) await kms.rotateKek({ wait: true });
  await kms.disableKey(first!.keyId);
  await kms.destroyKey(first!.keyId);
  t.deepEqual([...new Set(await backupsOf(store))], [second!.keyId]);
});

test('opened to look at, a store is left as it is in the middle of its rotation', async (t) => {
  const disk = openMemoryStore();
  const first = await openOn(t, disk, K1);
  const messages = await filled(first, 30);
  await first.rotateKek({ keysPerSecond: 1 });
  await first.close();
  let writes = 0;
  const store = storeWith(disk, (_name, real) => {
    writes += 1;
    return real();
  });
  const looking = await openOn(t, store, K1, { inspect: true });
  const status = await looking.rotationStatus();
  t.like(status, { state: 'failed', kekVersion: '2', phase: null });
  t.regex(status.error ?? '', /interrupted/);
  await opensAll(t, looking, messages.slice(0, 3));
  t.is(writes, 0);
});
