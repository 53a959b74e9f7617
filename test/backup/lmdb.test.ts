import { existsSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { restoreBackup } from '../../dist/backup/restore.js';
import type { StoreKind } from '../../dist/store/key-store.js';
import { storeKindIn } from '../../dist/store/kind.js';
import { Child } from '../crash/child.js';
import { newSeed, randomFrom } from '../crash/random.js';
import { openAt, type Place } from '../provider/subjects.js';
import { checkBackup } from './checked.js';
import { backupOf, type Filled, filled, MESSAGE, master, pathIn, RESTORING } from './ground.js';

async function serves(t: ExecutionContext, store: Filled, place: Place): Promise<void> {
  const kms = await openAt(t, place);
  t.deepEqual(Buffer.from(await kms.decryptWithDek(store.active, store.ciphertext)), MESSAGE);
  t.deepEqual(Buffer.from(await kms.decrypt(store.sealed)), MESSAGE);
  t.is((await kms.describeKey(store.disabled)).state, 'disabled');
  t.is((await kms.describeKey(store.destroyed)).state, 'destroyed');
  t.is((await kms.listKeys()).keys.length, 4);
  await kms.close();
}

const PAIRS: ReadonlyArray<readonly [from: StoreKind, to: StoreKind]> = [
  ['lmdb', 'files'],
  ['files', 'lmdb'],
  ['lmdb', 'lmdb'],
];

for (const [from, to] of PAIRS) {
  test(`a backup of a store of ${from} is proven, and restored as one of ${to}`, async (t) => {
    const store = await filled(t, { store: from });
    const path = pathIn(store.place);
    await backupOf(store.kms, path);
    await store.kms.close();
    t.deepEqual(await checkBackup(path, store.place), []);
    const place = { ...store.place, dataDir: join(store.place.directory, 'restored') };
    const restored = await restoreBackup({ path, dataDir: place.dataDir, master: master(place), store: to, ...RESTORING });
    t.is(restored.records, 4);
    t.is(storeKindIn(place.dataDir), to);
    await serves(t, store, place);
  });
}

test('a restore names the keys that only the LMDB store that it sets aside has', async (t) => {
  const store = await filled(t, { store: 'lmdb' });
  const path = pathIn(store.place);
  await backupOf(store.kms, path);
  const { keyId } = await store.kms.createDek();
  await store.kms.close();
  const options = { path, dataDir: store.place.dataDir, master: master(store.place), force: true, acceptRollback: true };
  for (const to of ['lmdb', 'files'] as const) {
    const { keysMissing } = await restoreBackup({ ...options, store: to, ...RESTORING });
    t.deepEqual(keysMissing, to === 'lmdb' ? [keyId] : [], to);
    await serves(t, store, store.place);
  }
});

test('a restore to LMDB that is killed leaves the old store or the new one, and the next one is whole', async (t) => {
  const store = await filled(t);
  for (let n = 0; n < 40; n += 1) {
    await Promise.all(Array.from({ length: 25 }, () => store.kms.createDek()));
  }
  const path = pathIn(store.place);
  await backupOf(store.kms, path);
  await store.kms.close();
  const { directory, dataDir, masterKeyFile } = store.place;
  const seed = newSeed();
  t.log(`TEST_SEED=${seed}`);
  const random = randomFrom(seed);
  const args = ['restore', path, '--store', 'lmdb', '--data-dir', dataDir, '--master-key-file', masterKeyFile];
  const restoring = () => new Child([resolve('dist/cli/main.js'), ...args, '--force', '--accept-rollback']);
  const isBuilding = () => readdirSync(directory).some((name) => name.includes('.restore-'));
  const decrypts = async (about: string) => {
    const kms = await openAt(t, store.place);
    t.deepEqual(Buffer.from(await kms.decryptWithDek(store.active, store.ciphertext)), MESSAGE, about);
    await kms.close();
  };
  for (const records of [1, 700, 1_004]) {
    const child = new Child([resolve('dist-test/backup/restoring.js'), path, directory, dataDir, masterKeyFile, `${records}`]);
    const held = new Promise<void>((said) => (child.onLine = () => said()));
    await Promise.race([held, child.ended]);
    await child.kill();
    t.is(child.process.signalCode, 'SIGKILL', child.errors);
    t.true(isBuilding());
    t.is(storeKindIn(dataDir), 'files');
    await decrypts(`${records} records`);
  }
  // At any other instant, which may be after the end, too.
  for (let round = 0; round < 5; round += 1) {
    const child = restoring();
    await delay(random() * 1_000);
    await child.kill();
    if (existsSync(dataDir)) await decrypts(`round ${round}`);
  }
  await restoring().finished();
  t.is(storeKindIn(dataDir), 'lmdb');
  t.false(isBuilding());
  const kms = await openAt(t, store.place);
  t.is((await kms.rotationStatus()).state, 'idle');
  let keys = 0;
  for await (const { fault } of kms.verifyRecords()) {
    t.is(fault, null);
    keys += 1;
  }
  t.is(keys, 1_004);
});
