import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { restoreBackup } from '../../dist/backup/restore.js';
import { RESTORED_USES } from '../../dist/limits.js';
import { madeIn, openedIn } from '../kms/databases.js';
import { refused } from '../provider/refused.js';
import { newPlace, openAt } from '../provider/subjects.js';
import { checkBackup } from './checked.js';
import { backupOf, bytesOf, entriesOf, filled, MESSAGE, master, pathIn, type RawEntry, RESTORING } from './ground.js';

/** A store with two databases and a key in each, and its backup. */
async function backedUp(t: ExecutionContext) {
  const store = await filled(t);
  const { kms, place } = store;
  const secrets = [await madeIn(kms), await madeIn(kms)] as [string, string];
  const made = [];
  for (const secret of secrets) {
    const database = await openedIn(t, kms, secret);
    const { keyId } = await database.createDekForThread('thread');
    made.push({ databaseId: database.databaseId, keyId, ciphertext: (await database.encryptWithDek(keyId, MESSAGE)).ciphertext });
  }
  const path = pathIn(place);
  const backup = await backupOf(kms, path);
  return { ...store, secrets, made: made as [(typeof made)[0], (typeof made)[0]], path, backup };
}

test('a store without databases is backed up as ever, one with them in a version that older readers refuse by name', async (t) => {
  const { kms, place } = await filled(t);
  const plain = pathIn(place, 'plain');
  await backupOf(kms, plain);
  t.is(readFileSync(plain, 'latin1').slice(0, 5), '\x03pkb1');
  t.is(JSON.parse(entriesOf(plain).at(-2)!.bytes.toString()).format, 1);
  await madeIn(kms);
  const path = pathIn(place);
  await backupOf(kms, path);
  t.is(readFileSync(path, 'latin1').slice(0, 5), '\x03pkb2');
  t.like(JSON.parse(entriesOf(path).at(-2)!.bytes.toString()), { format: 2, documents: 1 });
  // A document under the first version is nothing that a reader of it knows.
  const bytes = readFileSync(path);
  bytes[4] = '1'.charCodeAt(0);
  writeFileSync(pathIn(place, 'disguised'), bytes);
  await refused(t, checkBackup(pathIn(place, 'disguised'), place), 'INVALID_ARGUMENT', /nothing that it may hold/);
  bytes[4] = '3'.charCodeAt(0);
  writeFileSync(pathIn(place, 'newer'), bytes);
  await refused(t, checkBackup(pathIn(place, 'newer'), place), 'UNSUPPORTED', /another version/);
});

test('a backup holds every document of databases as it is, and a restore gives the databases back to their secrets', async (t) => {
  const { kms, place, secrets, made, path, backup } = await backedUp(t);
  t.is(backup.documents, 4);
  t.deepEqual(
    entriesOf(path)
      .map(({ type }) => type)
      .join(''),
    'RRRRDDDDKAMS',
  );
  const inner = (dataDir: string) =>
    made.flatMap(({ databaseId }) =>
      readdirSync(join(dataDir, 'kms-databases', databaseId)).map((name) =>
        readFileSync(join(dataDir, 'kms-databases', databaseId, name)),
      ),
    );
  const to = newPlace(t);
  const restored = await restoreBackup({ path, dataDir: to.dataDir, master: master(place), ...RESTORING });
  t.deepEqual(restored.keysMissing, []);
  t.deepEqual(inner(to.dataDir), inner(place.dataDir), 'what is in a database is restored byte by byte');
  await kms.close();
  const again = await openAt(t, { ...to, masterKeyFile: place.masterKeyFile });
  for (const [at, secret] of secrets.entries()) {
    const database = await openedIn(t, again, secret);
    const { keyId, ciphertext } = made[at]!;
    t.is(database.databaseId, made[at]!.databaseId);
    t.deepEqual(Buffer.from(await database.decryptWithDek(keyId, ciphertext)), MESSAGE);
  }
  for await (const one of again.databases()) t.like(one, { createdBy: 'uid:1', fault: null });
});

test('after a restore the use counts in a database are beyond what the backup says, once for each restore', async (t) => {
  const { kms, place, secrets, made, path } = await backedUp(t);
  await kms.close();
  const [{ keyId, ciphertext }] = made;
  let from = path;
  for (let times = 1; times <= 2; times += 1) {
    const to = newPlace(t);
    await restoreBackup({ path: from, dataDir: to.dataDir, master: master(place), ...RESTORING });
    const again = await openAt(t, { ...to, masterKeyFile: place.masterKeyFile });
    const database = await openedIn(t, again, secrets[0]);
    t.is((await database.describeKey(keyId)).usesReserved, 1_024 + times * RESTORED_USES);
    t.deepEqual(Buffer.from(await database.decryptWithDek(keyId, ciphertext)), MESSAGE);
    from = pathIn(to, 'again');
    await backupOf(again, from);
    // A write settles what was added: it is not added again.
    await database.disableKey(keyId);
    t.is((await database.describeKey(keyId)).usesReserved, 1_024 + times * RESTORED_USES);
    await again.close();
  }
});

test('a database that is damaged is no part of a backup, unless it is left out by name', async (t) => {
  const { kms, place, made, secrets } = await backedUp(t);
  const file = join(place.dataDir, 'kms-databases', `${made[0].databaseId}.database`);
  const bytes = readFileSync(file);
  bytes[60]! ^= 1;
  writeFileSync(file, bytes);
  const path = pathIn(place, 'second');
  await refused(t, backupOf(kms, path), 'STORE_UNAVAILABLE', new RegExp(`database ${made[0].databaseId} is damaged`));
  const backup = await backupOf(kms, path, { skipDamaged: true });
  t.deepEqual(backup.leftOut, [`database ${made[0].databaseId}`]);
  t.is(backup.documents, 2);
  const to = newPlace(t);
  const restored = await restoreBackup({ path, dataDir: to.dataDir, master: master(place), ...RESTORING });
  t.deepEqual(restored.leftOut, backup.leftOut);
  await kms.close();
  const again = await openAt(t, { ...to, masterKeyFile: place.masterKeyFile });
  await refused(t, again.openDatabase(Buffer.from(secrets[0])), 'UNAUTHENTICATED', /opens nothing/);
  await t.notThrowsAsync(openedIn(t, again, secrets[1]));
});

function edited(t: ExecutionContext, from: string, to: string, change: (documents: RawEntry[]) => RawEntry[]): void {
  const entries = entriesOf(from);
  const documents = entries.filter(({ type }) => type === 'D');
  t.is(documents.length, 4);
  const at = entries.findIndex(({ type }) => type === 'D');
  const all = [...entries.slice(0, at), ...change(documents), ...entries.filter(({ type }, index) => index > at && type !== 'D')];
  const bytes = bytesOf(all);
  bytes[4] = '2'.charCodeAt(0);
  writeFileSync(to, bytes);
}

test('documents that were exchanged, left out, repeated or changed in a backup are found', async (t) => {
  const { place, path } = await backedUp(t);
  const to = pathIn(place, 'edited');
  const changes: Array<[about: string, change: (documents: RawEntry[]) => RawEntry[]]> = [
    ['exchanged', ([a, b, c, d]) => [c!, d!, a!, b!]],
    ['inner first', ([a, b, c, d]) => [b!, a!, c!, d!]],
    ['left out', ([a, b, c]) => [a!, b!, c!]],
    ['repeated', ([a, b, c, d]) => [a!, b!, b!, c!, d!]],
    ['without its database', ([, b, c, d]) => [b!, c!, d!]],
    [
      'changed',
      (all) =>
        all.map((one, at) =>
          at === 0 ? { ...one, bytes: Buffer.from(one.bytes.map((byte, i) => (i === 80 ? byte ^ 1 : byte))) } : one,
        ),
    ],
    [
      'changed within',
      (all) =>
        all.map((one, at) =>
          at === 1 ? { ...one, bytes: Buffer.from(one.bytes.map((byte, i) => (i === 200 ? byte ^ 1 : byte))) } : one,
        ),
    ],
  ];
  for (const [about, change] of changes) {
    edited(t, path, to, change);
    await refused(t, checkBackup(to, place), 'INVALID_ARGUMENT', /damaged|documents/, about);
    const restoring = restoreBackup({ path: to, dataDir: newPlace(t).dataDir, master: master(place), ...RESTORING });
    await refused(t, restoring, 'INVALID_ARGUMENT', /damaged|documents/, about);
  }
});

test('a restore names the databases that only the directory before it has', async (t) => {
  const { kms, place, path } = await backedUp(t);
  const later = await openedIn(t, kms, await madeIn(kms));
  const { databaseId } = later;
  await kms.close();
  const restored = await restoreBackup({
    path,
    dataDir: place.dataDir,
    master: master(place),
    force: true,
    acceptRollback: true,
    ...RESTORING,
  });
  t.deepEqual(restored.keysMissing, [`database ${databaseId}`]);
});
