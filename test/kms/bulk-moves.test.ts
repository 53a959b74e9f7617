import { createCipheriv, createHmac, randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { EmbeddedKms } from '../../dist/kms/embedded.js';
import { canonicalRecord, dekAad } from '../../dist/store/canonical.js';
import type { KeyMeta, KeyStore } from '../../dist/store/key-store.js';
import { openLmdbStore } from '../../dist/store/lmdb.js';
import { openedStore } from '../secrets/opened-store.js';
import { filled, K1, kekVersions, openOn, opensAll, rotated, type Sealed, STORES, storeWith } from './stores.js';

const [, openLmdb] = STORES[1]!;

interface Ground {
  store: KeyStore;
  kms: EmbeddedKms;
  messages: Sealed[];
}

/** More keys than fit into two pages. */
async function ground(t: ExecutionContext, keys = 600): Promise<Ground> {
  const store = await openLmdb(t);
  const kms = await openOn(t, store, K1);
  return { store, kms, messages: await filled(kms, keys) };
}

function damaged(bytes: Uint8Array): Uint8Array {
  const copy = Buffer.from(bytes);
  copy[copy.length - 1]! ^= 1;
  return copy;
}

test('a rotation moves thousands of keys in a few transactions, and counts each of them', async (t) => {
  const { store, kms, messages } = await ground(t);
  await kms.close();
  const written = new Map<string, number>();
  const counting = storeWith(store, (name, real) => {
    written.set(name, (written.get(name) ?? 0) + 1);
    return real();
  });
  const again = await openOn(t, counting, K1);
  t.like(await again.rotateKek({ wait: true }), { state: 'idle', total: 600, done: 600, blockedBy: [] });
  t.is(written.get('moveMany'), 3);
  // What the probes of the rotation take uses for is written singly.
  t.is(written.get('keep'), undefined);
  t.deepEqual([...new Set((await kekVersions(store)).values())], [2]);
  const [rotationId] = await store.backups.list();
  t.is((await store.backups.listKeyIds(rotationId!, undefined, 10_000)).length, 600);
  await opensAll(t, again, messages);
});

/** Puts other bytes in the place of a record, as somebody would who can write the file. */
async function overwrite(store: KeyStore, keyId: string, after: Uint8Array): Promise<Uint8Array> {
  const before = Buffer.from(store.packed!.readSync(keyId)!);
  const aside = 'r9-0000000000000000';
  await store.packed!.moveMany(aside, [{ keyId, before, after }]);
  await store.backups.drop(aside);
  return before;
}

test('a record that is damaged in the middle of a page holds the rotation up and is named; the others are moved', async (t) => {
  const { store, kms, messages } = await ground(t);
  const bad = messages[300]!.keyId;
  const whole = await overwrite(store, bad, damaged(store.packed!.readSync(bad)!));
  const blocked = await kms.rotateKek({ wait: true });
  t.like(blocked, { state: 'blocked', phase: 'rewrap', total: 600, done: 599 });
  t.deepEqual(
    blocked.blockedBy.map(({ keyId }) => keyId),
    [bad],
  );
  t.regex(blocked.blockedBy[0]!.reason, /authentication code/);
  await overwrite(store, bad, whole);
  t.like(await kms.rotateKek({ wait: true }), { state: 'idle', blockedBy: [] });
  await opensAll(t, kms, messages);
});

test('a moved record that is damaged, or put back as it was, is found before the KEK goes', async (t) => {
  const { store, kms, messages } = await ground(t, 40);
  const [sick, putBack] = [messages[3]!.keyId, messages[4]!.keyId];
  const old = Buffer.from(store.packed!.readSync(putBack)!);
  await kms.close();
  let moved = false;
  const meddling = storeWith(store, async (name, real) => {
    const result = await real();
    if (name !== 'moveMany' || moved) return result;
    moved = true;
    await overwrite(store, putBack, old);
    await overwrite(store, sick, damaged(store.packed!.readSync(sick)!));
    return result;
  });
  const again = await openOn(t, meddling, K1);
  const blocked = await again.rotateKek({ wait: true });
  t.like(blocked, { state: 'blocked', phase: 'verify' });
  t.deepEqual(
    blocked.blockedBy.map(({ keyId }) => keyId),
    [sick],
  );
  t.is((await store.readRecord(putBack))!.kekVersion, 2, 'what was put back is moved again');
});

test('a record that changes between its reading and its move is moved as it is then', async (t) => {
  const { store, kms, messages } = await ground(t, 40);
  await kms.close();
  const { keyId } = messages[7]!;
  let again: EmbeddedKms | undefined;
  const changing = storeWith(store, async (name, real) => {
    if (name === 'moveMany') await again!.disableKey(keyId);
    return real();
  });
  again = await openOn(t, changing, K1);
  t.like(await again.rotateKek({ wait: true }), { state: 'idle', total: 40, done: 40 });
  t.like(await store.readRecord(keyId), { state: 'disabled', kekVersion: 2 });
  await again.enableKey(keyId);
  await opensAll(t, again, messages);
});

test('a rotation that is sealed away between two pages writes no third one, and goes on after a start', async (t) => {
  const { store, kms, messages } = await ground(t);
  await kms.close();
  let again: EmbeddedKms | undefined;
  let sealing: Promise<void> | undefined;
  let moves = 0;
  const store2 = storeWith(store, async (name, real) => {
    if (name === 'moveMany' && ++moves === 1) sealing = again!.seal();
    return real();
  });
  again = await openOn(t, store2, K1);
  await t.throwsAsync(again.rotateKek({ wait: true }), { code: 'SEALED' });
  await sealing;
  await again.close();
  t.true(moves <= 2, `${moves}`);
  const third = await openOn(t, store, K1);
  t.like(await rotated(third), { state: 'idle', kekVersion: '2' });
  t.deepEqual([...new Set((await kekVersions(store)).values())], [2]);
  await opensAll(t, third, messages);
});

/** The record with another key in it, as only who has the KEK and the record MAC key can make it. */
function forged(record: KeyMeta, keys: ReadonlyMap<string, Buffer>): Uint8Array {
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', keys.get('kek')!, nonce).setAAD(dekAad(record));
  const wrapped = Buffer.concat([nonce, cipher.update(randomBytes(32)), cipher.final(), cipher.getAuthTag()]);
  const canonical = canonicalRecord({ ...record, wrapped });
  return Buffer.concat([canonical, createHmac('sha256', keys.get('record-mac')!).update(canonical).digest()]);
}

test('a record that holds another key than its backup, though both open, blocks the rotation', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'kms-test-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const [dataDir, masterKeyFile] = [join(directory, 'data'), join(directory, 'master.key')];
  mkdirSync(join(dataDir, 'kms-deks'), { recursive: true, mode: 0o700 });
  chmodSync(dataDir, 0o700);
  writeFileSync(masterKeyFile, K1, { mode: 0o600 });
  const store = await openLmdbStore({ dataDir });
  t.teardown(() => store.close());
  const first = await openOn(t, store, K1);
  const messages = await filled(first, 40);
  await first.close();
  const { keys } = openedStore(dataDir, masterKeyFile);
  const { keyId } = messages[9]!;
  const other = forged((await store.readRecord(keyId))!, keys);
  let rotationId = '';
  const meddling = storeWith(store, async (name, real) => {
    const result = await real();
    if (name !== 'moveMany' || rotationId !== '') return result;
    [rotationId] = (await store.backups.list()) as [string];
    await store.backups.forget(keyId);
    const live = await overwrite(store, keyId, other);
    await store.packed!.moveMany(rotationId, [{ keyId, before: other, after: live }]);
    return result;
  });
  const second = await openOn(t, meddling, K1);
  const status = await second.rotateKek({ wait: true });
  t.like(status, { state: 'blocked', phase: 'verify' });
  t.deepEqual(status.blockedBy, [{ keyId, reason: 'it holds another key than its backup' }]);
  await opensAll(t, second, messages);
});

for (const [name, open] of STORES) {
  test(`keys that are destroyed are not counted by a rotation, ${name}`, async (t) => {
    const kms = await openOn(t, await open(t), K1);
    const [one] = await filled(kms, 5);
    await kms.disableKey(one!.keyId);
    await kms.destroyKey(one!.keyId);
    t.like(await kms.rotateKek({ wait: true }), { state: 'idle', done: 4, total: 4 });
  });
}
