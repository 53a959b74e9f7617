import test from 'ava';
import { KmsError } from '../../dist/errors.js';
import type { KeyStore } from '../../dist/store/key-store.js';
import { openMemoryStore } from '../../dist/store/memory.js';
import { crashingAt, filled, K1, openOn, rotated, storeWith } from './stores.js';

/** How many backups still hold the key itself. */
async function copiesOf(store: KeyStore, keyId: string): Promise<number> {
  let copies = 0;
  for (const rotationId of await store.backups.list()) {
    const kept = await store.backups.read(rotationId, keyId);
    if (kept !== undefined && kept.wrapped.length > 0) copies += 1;
  }
  return copies;
}

for (const isAfter of [false, true]) {
  test(`a process that dies ${isAfter ? 'after' : 'before'} any write of a destroy leaves no key in a backup that its record has given up`, async (t) => {
    let isThrough = false;
    for (let nth = 1; !isThrough && nth < 10; nth += 1) {
      const disk = openMemoryStore();
      const first = await openOn(t, disk, K1);
      const [message] = await filled(first, 2);
      const { keyId } = message!;
      await first.rotateKek({ wait: true });
      await first.disableKey(keyId);
      await first.close();
      t.is(await copiesOf(disk, keyId), 1);
      const crash = crashingAt(disk, nth, isAfter);
      const second = await openOn(t, crash.store, K1);
      const before = crash.writes();
      await second.destroyKey(keyId).catch(() => undefined);
      isThrough = crash.writes() - before > 0 && crash.writes() < nth;
      if ((await disk.readRecord(keyId))!.state === 'destroyed') t.is(await copiesOf(disk, keyId), 0, `write ${nth}`);
      void second.close().catch(() => undefined);
      const third = await openOn(t, disk, K1);
      await third.destroyKey(keyId);
      t.is(await copiesOf(disk, keyId), 0, `write ${nth}, asked again`);
    }
    t.true(isThrough);
  });
}

test('a rotation that keeps a key while it is being destroyed does not end before that is removed', async (t) => {
  const disk = openMemoryStore();
  let release = () => {};
  const held = new Promise<void>((resolve) => (release = resolve));
  let forgets = 0;
  const store = storeWith(disk, (name, real) => (name === 'forget' && ++forgets === 2 ? held.then(() => real()) : real()));
  const kms = await openOn(t, store, K1);
  const [message, other] = await filled(kms, 2);
  await kms.disableKey(message!.keyId);
  const destroying = kms.destroyKey(message!.keyId);
  while (forgets < 2) await new Promise((resolve) => setImmediate(resolve));
  await kms.rotateKek();
  for (let turn = 0; turn < 200; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  t.like(await kms.rotationStatus(), { state: 'running', phase: 'retire' });
  release();
  t.is((await destroying).state, 'destroyed');
  t.like(await rotated(kms), { state: 'idle', kekVersion: '2' });
  t.is(await copiesOf(disk, other!.keyId), 1);
});

test('a start that resumes a rotation removes what a crash left in backups of a key that was destroyed in it', async (t) => {
  const disk = openMemoryStore();
  let [isDead, forgets, isKept] = [false, 0, false];
  const store = storeWith(disk, async (name, real) => {
    if (isDead) throw new KmsError('STORE_UNAVAILABLE', 'the process is dead');
    // A rotation that comes between the first removal and the record, and no further.
    if (name === 'forget' && ++forgets === 2) isDead = true;
    if (isDead) throw new KmsError('STORE_UNAVAILABLE', 'the process is dead');
    const result = await real();
    if (name === 'forget') {
      const { kekId, kekVersion } = (await disk.readKeyring())!.keks.find(({ state }) => state === 'active')!;
      await disk.backups.keep(`r${kekVersion}-${kekId.slice(4, 20)}`, message!.keyId);
      isKept = true;
    }
    return result;
  });
  const kms = await openOn(t, store, K1);
  const messages = await filled(kms, 20);
  const message = messages.at(-1);
  await kms.disableKey(message!.keyId);
  await kms.rotateKek({ keysPerSecond: 1 });
  await t.throwsAsync(kms.destroyKey(message!.keyId), { code: 'STORE_UNAVAILABLE' });
  t.true(isKept);
  t.is((await disk.readRecord(message!.keyId))?.state, 'destroyed');
  t.is(await copiesOf(disk, message!.keyId), 1);
  void kms.close().catch(() => undefined);
  const again = await openOn(t, disk, K1);
  t.like(await rotated(again), { state: 'idle' });
  t.is(await copiesOf(disk, message!.keyId), 0);
});
