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
  let slow = false;
  const fileSystem = interceptedFileSystem((call, proceed) =>
    slow && call.op === 'fsync' ? delay(80).then(proceed) : proceed(),
  );
  const kms = await embeddedThrough(fileSystem, groundOf(place));
  t.teardown(() => kms.close());
  const { keyId } = await kms.createDek();
  const { ciphertext } = await kms.encryptWithDek(keyId, PLAIN);
  slow = true;
  const disabling = kms.disableKey(keyId);
  await delay(10);
  await kms.seal();
  await kms.unseal();
  const opened = kms.decryptWithDek(keyId, ciphertext).then(
    () => 'decrypted',
    (error) => error.code,
  );
  const answer = await disabling.then(
    (key) => key.state,
    (error) => error.code,
  );
  slow = false;
  await opened;
  t.is(answer, 'disabled');
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
  const older = readFileSync(file);
  for (let i = 0; i < 3000; i += 1) kms.encryptSync(keyId, PLAIN);
  const { ciphertext } = await kms.encryptWithDek(keyId, PLAIN);
  // Reservations that had begun in the background are through.
  await delay(100);
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
  for (let i = 0; i < 3000; i += 1) kms.encryptSync(keyId, PLAIN);
  await delay(100);
  const reserved = usesReserved();
  writeFileSync(file, older);
  while (older.equals(readFileSync(file))) for (let i = 0; i < 100; i += 1) kms.encryptSync(keyId, PLAIN);
  t.true(usesReserved() > reserved, `${usesReserved()} after ${reserved}`);
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
