import { chmodSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { migrateStore, removeMigrated } from '../../dist/backup/migrate.js';
import type { Finding } from '../../dist/cli/checks.js';
import { KmsError } from '../../dist/errors.js';
import type { KeyStore, StoredEntry, StoreKind } from '../../dist/store/key-store.js';
import { openStore, storeKindIn } from '../../dist/store/kind.js';
import { Child } from '../crash/child.js';
import { newSeed, randomFrom } from '../crash/random.js';
import { documentsIn } from '../kms/databases.js';
import { openAt, type Place } from '../provider/subjects.js';
import { cli, on } from '../recovery/ground.js';
import { type Filled, filled, MESSAGE } from './ground.js';

const DIRECTIONS: ReadonlyArray<readonly [from: StoreKind, to: StoreKind]> = [
  ['files', 'lmdb'],
  ['lmdb', 'files'],
];

/** Where a migration of some hundred records is killed in any case: at its first, among them, and when all are there. */
const HELD = [
  ['copying', 1],
  ['copying', 400],
  ['comparing', 400],
] as const;

async function withStore<T>({ dataDir }: Place, kind: StoreKind, work: (store: KeyStore) => Promise<T>): Promise<T> {
  const store = await openStore(kind, dataDir);
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

/** All that a store has, read by its own port. */
async function contentOf(place: Place, kind: StoreKind): Promise<Record<string, string>> {
  return await withStore(place, kind, async (store) => {
    const found: StoredEntry[] = [];
    for (let page = await store.entries!.page(undefined, 3); page.length > 0; ) {
      found.push(...page);
      page = await store.entries!.page(found.at(-1)?.name, 3);
    }
    const all = found.map((entry) => [entry.name, 'bytes' in entry ? Buffer.from(entry.bytes).toString('hex') : entry.fault]);
    for (const [name, document] of await documentsIn(store)) all.push([`d/${name}`, Buffer.from(document).toString('hex')]);
    return Object.fromEntries(all);
  });
}

/** A closed store with keys of each state, backups of rotations, a record that was set aside, and sealed documents. */
async function ground(t: ExecutionContext, store: StoreKind): Promise<Filled> {
  const made = await filled(t, { store, keepBackups: 3 });
  for (let n = 0; n < 2; n += 1) await made.kms.rotateKek({ wait: true });
  await made.kms.createDek();
  const database = await made.kms.openDatabase(await made.kms.newDatabase());
  await database.createDek();
  await made.kms.close();
  await withStore(made.place, store, async ({ backups }) => {
    const rotationId = (await backups.list())[0] as string;
    await backups.keepKeyring(rotationId);
    await backups.setAside(rotationId, made.disabled);
  });
  return made;
}

async function serves(t: ExecutionContext, store: Filled): Promise<void> {
  const kms = await openAt(t, store.place);
  t.deepEqual(Buffer.from(await kms.decryptWithDek(store.active, store.ciphertext)), MESSAGE);
  t.is((await kms.describeKey(store.destroyed)).state, 'destroyed');
  for await (const { fault } of kms.verifyRecords()) t.is(fault, null);
  await kms.rotateKek({ wait: true });
  t.deepEqual(Buffer.from(await kms.decrypt(store.sealed)), MESSAGE);
  await kms.close();
}

for (const [from, to] of DIRECTIONS) {
  test(`a store of ${from} becomes one of ${to} with every byte, and the old one stays until it is removed`, async (t) => {
    const store = await ground(t, from);
    const { dataDir } = store.place;
    const before = await contentOf(store.place, from);
    const keyring = readFileSync(join(dataDir, 'keyring.json'));
    t.deepEqual(
      [...new Set(Object.keys(before).map((name) => name[0]))].sort(),
      ['b', 'd', 'k', 'r', 's'],
      'each kind of entry is there',
    );
    const moved = await migrateStore({ dataDir, to });
    t.like(moved, { from, to, records: 4, documents: 2, leftOut: [], written: Object.keys(before).length });
    t.is(storeKindIn(dataDir), to);
    t.deepEqual(await contentOf(store.place, to), before);
    t.deepEqual(readFileSync(join(dataDir, 'keyring.json')), keyring);
    await serves(t, store);
    t.deepEqual(await contentOf(store.place, from), before, 'the old one is as it was, whatever the new one does');

    const { removed } = await removeMigrated(dataDir);
    t.deepEqual(
      removed.sort(),
      from === 'lmdb' ? ['keys.lmdb', 'keys.lmdb-lock'] : ['kms-databases', 'kms-deks', 'kms-deks-backup'],
    );
    for (const name of removed) t.false(existsSync(join(dataDir, name)));
    t.deepEqual((await removeMigrated(dataDir)).removed, []);
    await serves(t, store);
  });

  test(`a migration from ${from} goes by what it finds of one before, and a change since then is not lost`, async (t) => {
    const store = await ground(t, from);
    const { dataDir } = store.place;
    await migrateStore({ dataDir, to });
    const there = Object.keys(await contentOf(store.place, to)).length;
    await migrateStore({ dataDir, to: from });
    const kms = await openAt(t, store.place);
    await kms.disableKey(store.active);
    const { keyId } = await kms.createDek();
    await kms.rotateKek({ wait: true });
    await kms.close();
    await withStore(store.place, from, async ({ sealed }) => sealed.drop((await sealed.list('', undefined, 1))[0] as string));
    const before = await contentOf(store.place, from);
    const moved = await migrateStore({ dataDir, to });
    t.true(moved.written > 0 && there > 0);
    t.deepEqual(await contentOf(store.place, to), before);
    const again = await openAt(t, store.place);
    t.is((await again.describeKey(store.active)).state, 'disabled');
    t.is((await again.describeKey(keyId)).state, 'active');
  });

  test(`a migration from ${from} that is killed leaves that store live, and the next one is whole`, async (t) => {
    const store = await ground(t, from);
    const { place } = store;
    const kms = await openAt(t, place);
    for (let n = 0; n < 30; n += 1) await Promise.all(Array.from({ length: 25 }, () => kms.createDek()));
    await kms.close();
    const before = await contentOf(place, from);
    const isAsBefore = async (about: string) => {
      t.deepEqual(await contentOf(place, from), before, about);
      const opened = await openAt(t, place);
      t.is((await opened.describeKey(store.active)).state, 'active');
      await opened.close();
    };
    for (const [step, records] of HELD) {
      const child = new Child([resolve('dist-test/backup/migrating.js'), place.dataDir, to, step, `${records}`]);
      const held = new Promise<void>((said) => (child.onLine = () => said()));
      await Promise.race([held, child.ended]);
      await child.kill();
      t.is(child.process.signalCode, 'SIGKILL', child.errors);
      t.is(storeKindIn(place.dataDir), from);
      await isAsBefore(`${step} ${records}`);
    }
    const seed = newSeed();
    t.log(`TEST_SEED=${seed}`);
    const random = randomFrom(seed);
    const migrating = () =>
      new Child([resolve('dist/cli/main.js'), 'store', 'migrate', '--to', to, '--data-dir', place.dataDir, '--json']);
    // At any other instant, which may be after the end, too.
    for (let round = 0; round < 5 && storeKindIn(place.dataDir) === from; round += 1) {
      const child = migrating();
      await delay(random() * 500);
      await child.kill();
      if (storeKindIn(place.dataDir) === from) await isAsBefore(`round ${round}`);
    }
    t.log(`live at the end: ${storeKindIn(place.dataDir)}`);
    if (storeKindIn(place.dataDir) === from) await migrating().finished();
    t.is(storeKindIn(place.dataDir), to);
    t.deepEqual(await contentOf(place, to), before);
    await serves(t, store);
  });
}

test('a damaged record stops a migration, which names it, and the old store stays live', async (t) => {
  const store = await ground(t, 'files');
  const { dataDir } = store.place;
  writeFileSync(join(dataDir, 'kms-deks', `${store.active}.json`), '{}');
  const error = await t.throwsAsync(migrateStore({ dataDir, to: 'lmdb' }), { instanceOf: KmsError, code: 'STORE_UNAVAILABLE' });
  t.true(error?.message.includes(`the record of ${store.active} is damaged`), error?.message);
  t.is(storeKindIn(dataDir), 'files');
});

test('a damaged backup is left behind, and named', async (t) => {
  const store = await ground(t, 'files');
  const { dataDir } = store.place;
  const rotationId = readdirSync(join(dataDir, 'kms-deks-backup'))[0] as string;
  const path = join(dataDir, 'kms-deks-backup', rotationId, `${store.active}.json`);
  writeFileSync(path, 'x');
  chmodSync(path, 0o600);
  const { leftOut } = await migrateStore({ dataDir, to: 'lmdb' });
  t.deepEqual(leftOut, [`b/${rotationId}/${store.active}`]);
  await serves(t, store);
});

test('a target that is not what the source is does not become the live one', async (t) => {
  const store = await ground(t, 'files');
  const { dataDir } = store.place;
  const onStep = (step: string) => {
    if (step === 'comparing') {
      // As a disk that answers with something else than was written.
      const path = join(dataDir, 'kms-deks', `${store.active}.json`);
      const record = JSON.parse(readFileSync(path, 'utf8'));
      writeFileSync(path, `${JSON.stringify({ ...record, uses_reserved: record.uses_reserved + 1 })}\n`);
    }
    return () => {};
  };
  const error = await t.throwsAsync(migrateStore({ dataDir, to: 'lmdb', onStep }), { code: 'STORE_UNAVAILABLE' });
  t.true(error?.message.includes(`r/${store.active} is not the same in both stores`), error?.message);
  t.is(storeKindIn(dataDir), 'files');
});

test('a migration is refused where there is nothing to do, or a daemon has the directory, and nothing is touched', async (t) => {
  const store = await filled(t);
  const { place } = store;
  const migrate = (...args: string[]) => cli(place, ['store', 'migrate', ...args, '--data-dir', place.dataDir]);
  const held = await migrate('--to', 'lmdb');
  t.not(held.exit, 0);
  t.regex(held.stderr, /stop its daemon first/);
  await store.kms.close();
  t.regex((await migrate('--to', 'files')).stderr, /holds a store of kind files already/);
  t.regex((await migrate('--to', 'other')).stderr, /must be files or lmdb/i);
  t.regex((await migrate()).stderr, /give one of --to KIND and --remove-source/);
  t.regex((await migrate('--remove-source')).stderr, /no store of it was migrated/);
  t.regex((await cli(place, ['store', 'migrate', '--to', 'lmdb', '--data-dir', `${place.dataDir}x`])).stderr, /there is no/);
  t.false(existsSync(join(place.dataDir, 'keys.lmdb')));
  t.false(existsSync(join(place.dataDir, 'store.json')));
  const done = await migrate('--to', 'lmdb', '--json');
  t.is(done.exit, 0, done.stderr);
  t.like(JSON.parse(done.stdout), { from: 'files', to: 'lmdb', records: 4, left_out: [] });
  const findings = async () => JSON.parse((await cli(place, ['doctor', '--json', ...on(place)])).stdout).findings as Finding[];
  const left = (await findings()).find(({ check }) => check === 'store');
  t.like(left, { verdict: 'advice' });
  t.regex(left?.message ?? '', /^kms-deks of before a migration/);
  t.like(JSON.parse((await migrate('--remove-source', '--json')).stdout), { store: 'lmdb', removed: ['kms-deks'] });
  t.is((await cli(place, ['doctor', ...on(place)])).exit, 0);
  t.false((await findings()).some(({ check }) => check === 'store'));
});
