import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { EmbeddedKms } from '../../dist/create.js';
import { KmsError } from '../../dist/errors.js';
import type { KeyringDocument, KeyStore } from '../../dist/store/key-store.js';
import { openMemoryStore } from '../../dist/store/memory.js';
import { scratch } from '../provider/subjects.js';
import { filled, K1, K2, K3, openOn, opensAll, rotated, storeWith } from './stores.js';

const DAY_MS = 24 * 3_600_000;
const K4 = '4'.repeat(64);

async function states(kms: EmbeddedKms): Promise<string[]> {
  return (await kms.slots()).map(({ kind, state, inUse }) => `${kind} ${state}${inUse ? ' used' : ''}`);
}

async function opensWith(t: ExecutionContext, store: KeyStore, master: string): Promise<EmbeddedKms> {
  const kms = await openOn(t, store, master);
  await rotated(kms);
  return kms;
}

async function opensNothing(t: ExecutionContext, store: KeyStore, master: string, about?: string): Promise<void> {
  await t.throwsAsync(openOn(t, store, master), { code: 'UNAUTHENTICATED' }, about);
}

async function look(t: ExecutionContext, store: KeyStore, master: string): Promise<string[]> {
  const kms = await openOn(t, store, master, { inspect: true });
  const found = await states(kms);
  await kms.close();
  return found;
}

test('K1 to K2 to K3: both open the store until the new one has started it, then only the new one', async (t) => {
  const store = openMemoryStore();
  let kms = await openOn(t, store, K1);
  const messages = await filled(kms, 5);
  const keyrings: KeyringDocument[] = [(await store.readKeyring())!];
  const roots: string[] = [];
  for (const [old, next] of [
    [K1, K2],
    [K2, K3],
  ] as const) {
    const before = (await store.readKeyring())!;
    await kms.rotateKek({ newKekHex: next, wait: true });
    await opensAll(t, kms, messages, 'at once');
    await kms.close();
    for (const master of [old, next]) t.is((await look(t, store, master)).length, 2, 'looking changes nothing');
    kms = await opensWith(t, store, old);
    t.deepEqual(await states(kms), ['master active used', 'master successor'], 'a start with the old one keeps both');
    await opensAll(t, kms, messages);
    await kms.close();
    keyrings.push((await store.readKeyring())!);
    kms = await opensWith(t, store, next);
    t.deepEqual(await states(kms), ['master active used']);
    await opensAll(t, kms, messages);
    await kms.close();
    await opensNothing(t, store, old, 'the old one');
    const [kept] = (await store.readKeyring())!.slots;
    t.false(before.slots.some((slot) => slot.slotId === kept!.slotId));
    roots.push(Buffer.from(kept!.root).toString('hex'));
    kms = await opensWith(t, store, next);
    await opensAll(t, kms, messages, 'after one more restart');
  }
  t.is((await kms.rotationStatus()).kekVersion, '3');
  t.is(new Set(roots).size, 2);
  await kms.close();
  // Whoever has an old copy of the keyring, and the master key of then, opens no record that is written today.
  const today = (await store.readKeyring())!;
  for (const [keyring, master] of [
    [keyrings[0], K1],
    [keyrings[1], K1],
    [keyrings[1], K2],
    [keyrings[2], K2],
  ] as const) {
    await store.writeKeyring(keyring!);
    const thief = await openOn(t, store, master, { inspect: true });
    const opened = await Promise.allSettled(messages.map(({ keyId, ciphertext }) => thief.decryptWithDek(keyId, ciphertext)));
    const isCurrent = keyring!.keks.some((kek) => kek.kekVersion === 3);
    t.true(
      opened.every(({ status }) => (status === 'fulfilled') === isCurrent),
      'the last copy is of after the rotation: its KEK is replaced by the next one only',
    );
    await thief.close();
  }
  await store.writeKeyring(today);
  await opensAll(t, await opensWith(t, store, K3), messages);
});

test('the keyring of before is kept while its master key may be needed, and not once the new one has started the store', async (t) => {
  const disk = openMemoryStore();
  const kept: string[] = [];
  const store = storeWith(disk, (name, real) => {
    kept.push(name);
    return real();
  });
  const first = await openOn(t, store, K1);
  const { rotationId } = await first.rotateKek({ newKekHex: K2, wait: true });
  t.true(
    kept.indexOf('keepKeyring') >= 0 && kept.indexOf('keepKeyring') < kept.lastIndexOf('writeKeyring'),
    'before it is changed',
  );
  await first.close();
  const still = await opensWith(t, store, K1);
  await still.close();
  t.deepEqual(await disk.backups.list(), [rotationId!]);
  await (await opensWith(t, store, K2)).close();
  t.deepEqual(await disk.backups.list(), [], 'nothing else was kept');
});

test('a start that dies between taking the old master keys away and dropping what was kept for them: the next one drops it', async (t) => {
  const disk = openMemoryStore();
  const first = await openOn(t, disk, K1);
  await first.rotateKek({ newKekHex: K2, wait: true });
  await first.close();
  const dying = storeWith(disk, (name, real) => {
    if (name === 'dropKeyrings') throw Object.assign(new Error('killed'), { name: 'Killed' });
    return real();
  });
  await t.throwsAsync(openOn(t, dying, K2), { name: 'Killed' });
  t.is((await disk.backups.list()).length, 1);
  await opensWith(t, disk, K2);
  t.deepEqual(await disk.backups.list(), []);
});

test('two successors: the later one, when it starts the store, succeeds the earlier one too', async (t) => {
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1);
  await kms.rotateKek({ newKekHex: K2, wait: true });
  await kms.rotateKek({ newKekHex: K3, wait: true });
  await kms.close();
  t.is((await look(t, store, K2)).length, 3);
  t.deepEqual(await states(await opensWith(t, store, K3)), ['master active used']);
  await opensNothing(t, store, K2);
  await opensNothing(t, store, K1);
});

test('two successors: the earlier one, when it starts the store, leaves the later one waiting', async (t) => {
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1);
  await kms.rotateKek({ newKekHex: K2, wait: true });
  await kms.rotateKek({ newKekHex: K3, wait: true });
  await kms.close();
  t.deepEqual(await states(await opensWith(t, store, K2)), ['master active used', 'master successor']);
  await opensNothing(t, store, K1);
  t.deepEqual(await states(await opensWith(t, store, K3)), ['master active used']);
});

test('a pending slot that a start has used is active beside the others', async (t) => {
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1);
  const messages = await filled(kms, 2);
  t.like(await kms.addSlot({ keyHex: K2 }), { state: 'pending', kind: 'master', inUse: false });
  await opensAll(t, kms, messages);
  await kms.close();
  t.deepEqual(await look(t, store, K2), ['master active', 'master pending used'], 'looking is no start');
  const second = await opensWith(t, store, K2);
  t.deepEqual(await states(second), ['master active', 'master active used']);
  t.is((await second.slots())[1]!.expiresAt, null);
  await opensAll(t, second, messages);
  await second.close();
  await opensAll(t, await opensWith(t, store, K1), messages);
});

/** Runs `work` as if so many days had passed. */
async function daysLater(days: number, work: () => Promise<void>): Promise<void> {
  const RealDate = Date;
  const at = () => RealDate.now() + days * DAY_MS;
  globalThis.Date = class extends RealDate {
    static override now = at;
    constructor(...given: [] | [string]) {
      super(given[0] ?? at());
    }
  } as DateConstructor;
  try {
    await work();
  } finally {
    globalThis.Date = RealDate;
  }
}

test.serial('a slot that no start has used in seven days opens nothing, and goes with the next start', async (t) => {
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1);
  await kms.addSlot({ keyHex: K2 });
  await kms.addSlot({ keyHex: K3 }, { expires: false });
  await kms.rotateKek({ newKekHex: K4, wait: true });
  await kms.close();
  await daysLater(6.9, async () => {
    t.is((await look(t, store, K2)).length, 4);
  });
  await daysLater(7.1, async () => {
    await t.throwsAsync(openOn(t, store, K2), { code: 'UNAUTHENTICATED', message: /expired/ });
    const again = await opensWith(t, store, K1);
    t.deepEqual(await states(again), ['master active used', 'master pending', 'master successor'], 'a successor waits for ever');
    await again.close();
    await t.throwsAsync(openOn(t, store, K2), { code: 'UNAUTHENTICATED', message: /opens no slot/ });
  });
});

test.serial('slots that have expired keep no place from new ones', async (t) => {
  const kms = await openOn(t, openMemoryStore(), K1);
  for (const digit of '2345') await kms.addSlot({ keyHex: digit.repeat(64) });
  await t.throwsAsync(kms.addSlot({ keyHex: '6'.repeat(64) }), { code: 'CONFLICT', message: /4 slots await/ });
  await daysLater(7.1, async () => {
    t.is((await kms.addSlot({ keyHex: '6'.repeat(64) })).state, 'pending');
  });
});

test('the same key twice is one slot, and a pending one may become the successor', async (t) => {
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1);
  const pending = await kms.addSlot({ keyHex: K2 });
  await kms.addSlot({ keyHex: K3 });
  t.is((await kms.addSlot({ keyHex: K2 })).slotId, pending.slotId);
  t.is((await kms.addSlot({ keyHex: K1 })).inUse, true, 'that of the start');
  t.is((await kms.slots()).length, 3);
  await kms.rotateKek({ newKekHex: K2, wait: true });
  t.deepEqual(await states(kms), ['master active used', 'master pending', 'master successor']);
  t.like((await kms.slots())[2]!, { slotId: pending.slotId, expiresAt: null });
  await kms.close();
  t.deepEqual(await states(await opensWith(t, store, K2)), ['master active used'], 'all that were there before it');
  await opensNothing(t, store, K3);
});

test('a recovery slot opens the store, and stays when the master keys are succeeded', async (t) => {
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1);
  const messages = await filled(kms, 2);
  t.like(await kms.addSlot({ keyHex: K4, kind: 'recovery' }, { expires: false }), { kind: 'recovery', expiresAt: null });
  await kms.rotateKek({ newKekHex: K2, wait: true });
  await kms.close();
  const second = await opensWith(t, store, K2);
  t.deepEqual(await states(second), ['recovery pending', 'master active used']);
  await second.close();
  const recovered = await opensWith(t, store, K4);
  t.deepEqual(await states(recovered), ['recovery active used', 'master active']);
  await opensAll(t, recovered, messages);
});

test('a removed slot opens nothing, the others do, under another root key', async (t) => {
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1);
  const messages = await filled(kms, 3);
  const { slotId } = await kms.addSlot({ keyHex: K2 });
  await kms.addSlot({ keyHex: K3 });
  const before = (await store.readKeyring())!;
  await kms.removeSlot(slotId);
  const after = (await store.readKeyring())!;
  t.is(after.slots.length, 2);
  for (const slot of after.slots) {
    const was = before.slots.find((one) => one.slotId === slot.slotId)!;
    t.deepEqual([slot.salt, slot.createdAt], [was.salt, was.createdAt]);
    t.notDeepEqual(slot.root, was.root);
  }
  await opensAll(t, kms, messages);
  await filled(kms, 2);
  await kms.close();
  await opensNothing(t, store, K2);
  for (const master of [K1, K3]) {
    const opened = await opensWith(t, store, master);
    await opensAll(t, opened, messages);
    t.deepEqual((await opened.health()).damagedRecords, []);
    await opened.close();
  }
  // The slot of before, put back beside the others of today, is of a root key that opens nothing of today.
  const removed = before.slots.find((slot) => slot.slotId === slotId)!;
  await store.writeKeyring({ ...after, slots: [...after.slots, removed] });
  await t.throwsAsync(openOn(t, store, K2), { code: 'STORE_UNAVAILABLE' });
});

test('a slot that is removed opens no keyring that was kept for a rotation either', async (t) => {
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1);
  const { slotId } = await kms.addSlot({ keyHex: K3 });
  await kms.rotateKek({ newKekHex: K2, wait: true });
  t.is((await store.backups.list()).length, 1);
  await t.throwsAsync(kms.removeSlot(`s_${'0'.repeat(32)}`), { code: 'INVALID_ARGUMENT' });
  t.is((await store.backups.list()).length, 1, 'nothing was removed');
  await kms.removeSlot(slotId);
  t.deepEqual(await store.backups.list(), []);
});

test('the last active master slot stays, and so does the one that the store was opened with', async (t) => {
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1);
  const [first] = await kms.slots();
  await kms.addSlot({ keyHex: K2 });
  await kms.addSlot({ keyHex: K4, kind: 'recovery' });
  await t.throwsAsync(kms.removeSlot(first!.slotId), { code: 'CONFLICT', message: /last master key/ });
  await kms.close();
  const second = await opensWith(t, store, K2);
  const used = (await second.slots()).find(({ inUse }) => inUse)!;
  await t.throwsAsync(second.removeSlot(used.slotId), { code: 'CONFLICT', message: /opened with/ });
  await second.removeSlot(first!.slotId);
  await opensNothing(t, store, K1);
});

test('slots are added and removed in the middle of a rotation, which ends all the same', async (t) => {
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1);
  const messages = await filled(kms, 40);
  const rotation = kms.rotateKek({ wait: true, keysPerSecond: 200 });
  const { slotId } = await kms.addSlot({ keyHex: K2 });
  await kms.removeSlot(slotId);
  t.like(await rotation, { state: 'idle', kekVersion: '2' });
  await opensAll(t, kms, messages);
  await kms.close();
  await opensAll(t, await opensWith(t, store, K1), messages);
});

test('a rewrap with a new key works at once, after a restart with the old master key, and after one with the new', async (t) => {
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1);
  const messages = await filled(kms, 3);
  const key = await kms.rewrapDek(messages[0]!.keyId, { newKekHex: K2 });
  t.is(key.keyId, messages[0]!.keyId);
  await opensAll(t, kms, messages);
  await kms.close();
  for (const master of [K1, K2, K1]) {
    const opened = await opensWith(t, store, master);
    await opensAll(t, opened, messages);
    await opened.close();
  }
});

test('one key alone is moved to the active KEK while the rotation holds at others', async (t) => {
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1, { keysPerSecond: 1 });
  const messages = await filled(kms, 30);
  const { rotationId } = await kms.rotateKek();
  const { keyId } = messages[29]!;
  t.is((await kms.rewrapDek(keyId)).kekVersion, '2');
  t.is((await store.readRecord(keyId))!.kekVersion, 2);
  t.is((await store.backups.read(rotationId!, keyId))!.kekVersion, 1);
  await opensAll(t, kms, messages);
  t.is((await kms.encryptWithDek(keyId, Buffer.from('x'))).keyVersion, '2');
});

test('a rewrap of a key that is not there adds no slot, nor does one of a destroyed key', async (t) => {
  const kms = await openOn(t, openMemoryStore(), K1);
  const [message] = await filled(kms, 1);
  await t.throwsAsync(kms.rewrapDek('k_none', { newKekHex: K2 }), { code: 'KEY_NOT_FOUND' });
  await kms.disableKey(message!.keyId);
  await kms.destroyKey(message!.keyId);
  await t.throwsAsync(kms.rewrapDek(message!.keyId, { newKekHex: K2 }), { code: 'KEY_DESTROYED' });
  t.is((await kms.slots()).length, 1);
});

test('a new master key from a file', async (t) => {
  const file = join(scratch(t), 'new.key');
  const key = 'c0ffee11'.repeat(8);
  writeFileSync(file, `${key}\n`, { mode: 0o600 });
  const store = openMemoryStore();
  const kms = await openOn(t, store, K1);
  await kms.rotateKek({ newMasterKeyFile: file, wait: true });
  await kms.close();
  t.deepEqual(await states(await opensWith(t, store, key)), ['master active used']);
});

test('a disk that takes no writes does not keep a store with a new master key from serving', async (t) => {
  const disk = openMemoryStore();
  const kms = await openOn(t, disk, K1);
  const messages = await filled(kms, 2);
  await kms.rotateKek({ newKekHex: K2, wait: true });
  await kms.close();
  const full = storeWith(disk, () => {
    throw new KmsError('STORE_UNAVAILABLE', 'ENOSPC at write');
  });
  const second = await openOn(t, full, K2);
  await opensAll(t, second, messages);
  t.deepEqual(await states(second), ['master active', 'master successor used']);
});
