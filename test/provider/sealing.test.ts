import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { arenaInfo } from '../../dist/vault.js';
import { embeddedThrough, faultyProvider } from '../crash/faulty-provider.js';
import { interceptedFileSystem } from '../store/intercepted.js';
import { refused } from './refused.js';
import { newPlace, openAt } from './subjects.js';

const PLAIN = Buffer.from('to be kept');

function groundOf(place: ReturnType<typeof newPlace>) {
  return { ...place, keyFile: place.masterKeyFile, socket: join(place.directory, 'socket') };
}

test.serial('unseals at the same time open one session, and a seal after them leaves no key', async (t) => {
  const before = arenaInfo().used;
  const kms = await openAt(t, newPlace(t));
  await kms.seal();
  await Promise.all([kms.unseal(), kms.unseal(), kms.unseal()]);
  await kms.createDek();
  await kms.seal();
  t.is(arenaInfo().used, before);
});

test.serial('a seal or a close during an unseal wins, and leaves no key', async (t) => {
  const before = arenaInfo().used;
  for (const end of ['seal', 'close'] as const) {
    for (let turns = 0; turns < 12; turns += 1) {
      const kms = await openAt(t, newPlace(t));
      await kms.seal();
      const unsealing = kms.unseal().then(
        () => 'open',
        (error) => error.code,
      );
      for (let turn = 0; turn < turns; turn += 1) await new Promise(setImmediate);
      const ended = kms[end]();
      t.regex(await unsealing, /^(open|SEALED)$/);
      await ended;
      t.true(kms.sealed);
      await kms.close();
      t.is(arenaInfo().used, before, `${end} after ${turns} turns`);
    }
  }
});

test.serial('a key whose disabling was under way at a seal does not serve after the unseal', async (t) => {
  const place = newPlace(t);
  let begun = (): void => {};
  let held: Promise<void> | undefined;
  const fileSystem = interceptedFileSystem((call, proceed) => {
    if (held === undefined || call.op !== 'fsync') return proceed();
    begun();
    return held.then(proceed);
  });
  const kms = await embeddedThrough(fileSystem, groundOf(place));
  t.teardown(() => kms.close());
  const { keyId } = await kms.createDek();
  const { ciphertext } = await kms.encryptWithDek(keyId, PLAIN);
  const underWay = new Promise<void>((resolve) => (begun = resolve));
  let letGo = (): void => {};
  held = new Promise((resolve) => (letGo = resolve));
  const disabling = kms.disableKey(keyId);
  await underWay;
  await kms.seal();
  // An unseal that does not wait for the write is through by then, and has read the key as it was.
  const opened = kms.unseal().then(() => kms.decryptWithDek(keyId, ciphertext).catch(() => undefined));
  await Promise.race([opened, delay(100)]);
  letGo();
  await opened;
  t.is((await disabling).state, 'disabled');
  await refused(t, kms.decryptWithDek(keyId, ciphertext), 'KEY_DISABLED');
});

test.serial('a state whose durability was lost is not confirmed by asking for it again', async (t) => {
  const ground = groundOf(newPlace(t));
  const faulty = await faultyProvider(t, ground);
  const { keyId } = await faulty.kms.createDek();
  let renamed = false;
  faulty.fails = (call) => {
    if (call.op === 'renameSync') renamed = true;
    return renamed && call.op === 'fsync' ? 'EIO' : undefined;
  };
  await refused(t, faulty.kms.disableKey(keyId), 'STORE_UNAVAILABLE', /./);
  t.true(renamed);
  faulty.fails = () => undefined;
  await refused(t, faulty.kms.disableKey(keyId), 'STORE_UNAVAILABLE', /./);
});

test.serial('a record put back from an older copy is not lowered by a clean close', async (t) => {
  const place = newPlace(t);
  const kms = await openAt(t, place);
  const { keyId } = await kms.createDek();
  const file = join(place.dataDir, 'kms-deks', `${keyId}.json`);
  const usesReserved = () => JSON.parse(readFileSync(file, 'utf8')).uses_reserved;
  // One after the other, so that who runs out waits for the reservation: none is under way at either look.
  for (let i = 0; i < 1100; i += 1) await kms.encryptWithDek(keyId, PLAIN);
  const older = readFileSync(file);
  t.is(usesReserved(), 2048);
  for (let i = 1100; i < 2499; i += 1) await kms.encryptWithDek(keyId, PLAIN);
  const { ciphertext } = await kms.encryptWithDek(keyId, PLAIN);
  // About 1,600 are unused: the older record has so many to give, and would say less than was done.
  t.is(usesReserved(), 4096);
  writeFileSync(file, older);
  await kms.close();
  t.deepEqual(readFileSync(file), older);
  const again = await openAt(t, place);
  t.deepEqual(Buffer.from(await again.decryptWithDek(keyId, ciphertext)), PLAIN);
});

test.serial('a record put back from an older copy is counted on from where the process was', async (t) => {
  const place = newPlace(t);
  const kms = await openAt(t, place);
  const { keyId } = await kms.createDek();
  const file = join(place.dataDir, 'kms-deks', `${keyId}.json`);
  const older = readFileSync(file);
  const usesReserved = () => JSON.parse(readFileSync(file, 'utf8')).uses_reserved;
  let done = 0;
  const use = (times: number) => {
    for (let i = 0; i < times; i += 1) kms.encryptSync(keyId, PLAIN);
    done += times;
  };
  use(3000);
  // Afterwards none that had begun in the background is under way: there is one at a time for a key.
  await kms.reserveUses(keyId);
  const reserved = usesReserved();
  writeFileSync(file, older);
  while (older.equals(readFileSync(file))) use(100);
  // To the end of the block that was reserved then, and of the next one.
  for (; done < 4 * reserved; use(64)) t.true(usesReserved() >= done, `${usesReserved()} reserved, ${done} done`);
});

test.serial('who made a key is checked before anything is written', async (t) => {
  const place = newPlace(t);
  const kms = await openAt(t, place);
  for (const actor of ['John Smith', '', 'x'.repeat(65)]) {
    await refused(t, kms.createDek('label', { actor }), 'INVALID_ARGUMENT', /./);
    await refused(t, kms.createDekForThread('thread', { actor }), 'INVALID_ARGUMENT', /./);
  }
  t.is((await kms.listKeys()).keys.length, 0);
});

test.serial('changes of one key do not hold up the fetching of another', async (t) => {
  const place = newPlace(t);
  const writer = await openAt(t, place);
  const { keyId } = await writer.createDek();
  const own = await writer.createDek();
  await writer.close();
  let reads = 0;
  const fileSystem = interceptedFileSystem((call, proceed) => {
    if (call.op === 'open' && call.of === `${keyId}.json`) reads += 1;
    return proceed();
  });
  const kms = await embeddedThrough(fileSystem, groundOf(place));
  t.teardown(() => kms.close());
  await kms.disableKey(own.keyId);
  const changes = Array.from({ length: 400 }, () => kms.disableKey(own.keyId));
  await kms.encryptWithDek(keyId, PLAIN);
  await Promise.all(changes);
  t.true(reads <= 3, `${reads} reads of a record that nobody changed`);
});

test.serial('a data directory that cannot be made, and options of the wrong kind, are refused with a KmsError', async (t) => {
  const place = newPlace(t);
  await refused(t, openAt(t, { ...place, dataDir: join(place.masterKeyFile, 'below') }), 'STORE_UNAVAILABLE', /./);
  for (const options of [{ dataDir: 5 }, { dataDir: 'a\0b' }, { keyIdleMs: Number.NaN }, { cachedKeys: -1 }]) {
    await refused(t, openAt(t, place, options as never), 'INVALID_ARGUMENT', /./);
  }
  t.false(existsSync(place.dataDir));
});
