import { lstatSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { openFileStore } from '../../dist/store/files.js';
import { DamagedDocument } from '../../dist/store/key-store.js';
import { backupsContract } from './backups-contract.js';
import { newDataDir, openedStore } from './data-dir.js';
import { newKeyring, newRecord, next, plain } from './documents.js';
import { type Call, interceptedFileSystem, systemError } from './intercepted.js';

backupsContract(test, async (t) => openedStore(t, newDataDir(t)));

const ROTATION = 'r2-0123456789abcdef';
const mode = (path: string) => (lstatSync(path).mode & 0o7777).toString(8);

async function withRecord(t: ExecutionContext, calls: Call[] = [], fails: (call: Call) => string | undefined = () => undefined) {
  const dataDir = newDataDir(t);
  const system = interceptedFileSystem((call, proceed) => {
    calls.push(call);
    const errno = fails(call);
    if (errno !== undefined) throw systemError(errno, call.op);
    return proceed();
  });
  const store = await openedStore(t, dataDir, system);
  const record = newRecord();
  await store.createRecord(record);
  calls.length = 0;
  return { store, record, dataDir, kept: join(dataDir, 'kms-deks-backup', ROTATION) };
}

test('backups lie where docs/FORMATS.md says, in directories of 0700, and files of 0600', async (t) => {
  const { store, record, dataDir, kept } = await withRecord(t);
  await store.writeKeyring(newKeyring(1));
  await store.backups.keep(ROTATION, record.keyId);
  await store.backups.keepKeyring(ROTATION);
  t.deepEqual(readdirSync(kept).sort(), [`${record.keyId}.json`, 'keyring.json'].sort());
  for (const path of [join(dataDir, 'kms-deks-backup'), kept]) t.is(mode(path), '700');
  for (const name of readdirSync(kept)) t.is(mode(join(kept, name)), '600');
  await store.backups.drop(ROTATION);
  t.deepEqual(readdirSync(join(dataDir, 'kms-deks-backup')), []);
});

test('a backup is a second name of the file that was there, so that its bytes are what they were', async (t) => {
  const { store, record, dataDir, kept } = await withRecord(t);
  const file = `${record.keyId}.json`;
  const { ino } = lstatSync(join(dataDir, 'kms-deks', file));
  const before = readFileSync(join(dataDir, 'kms-deks', file));
  await store.backups.keep(ROTATION, record.keyId);
  await store.replaceRecord(next(record));
  t.is(lstatSync(join(kept, file)).ino, ino);
  t.deepEqual(readFileSync(join(kept, file)), before);
});

test('a store that is opened again finds what was kept', async (t) => {
  const { store, record, dataDir } = await withRecord(t);
  await store.backups.keep(ROTATION, record.keyId);
  await store.close();
  const again = await openFileStore({ dataDir });
  t.teardown(() => again.close());
  t.deepEqual(await again.backups.list(), [ROTATION]);
  t.deepEqual(plain(await again.backups.read(ROTATION, record.keyId)), record);
});

test('a backup is answered for only after an fsync of its directory that began after its link', async (t) => {
  const calls: Call[] = [];
  const { store, record } = await withRecord(t, calls);
  await store.backups.keep(ROTATION, record.keyId);
  calls.length = 0;
  await store.backups.keep(ROTATION, record.keyId);
  const linked = calls.findIndex((call) => call.op === 'link');
  t.true(linked >= 0);
  t.true(calls.findIndex((call, index) => index > linked && call.op === 'fsync') > linked, 'also when it was there already');
});

test('a link that fails is an error, and the record is kept by nothing', async (t) => {
  let isFailing = false;
  const { store, record } = await withRecord(t, [], (call) => (isFailing && call.op === 'link' ? 'EPERM' : undefined));
  isFailing = true;
  const error = await t.throwsAsync(store.backups.keep(ROTATION, record.keyId));
  t.regex(error?.message ?? '', /EPERM at link/);
  isFailing = false;
  t.is(await store.backups.read(ROTATION, record.keyId), undefined);
});

test('an fsync of backups that fails has the store refuse all writes: what it said of them may be lost', async (t) => {
  let isFailing = false;
  const { store, record } = await withRecord(t, [], (call) => (isFailing && call.op === 'fsync' ? 'EIO' : undefined));
  await store.backups.keep(ROTATION, record.keyId);
  isFailing = true;
  await t.throwsAsync(store.backups.keep(ROTATION, record.keyId), { message: /EIO at fsync/ });
  t.regex(store.fault() ?? '', /read-only/);
  await t.throwsAsync(store.replaceRecord(next(record)), { message: /read-only/ });
});

test('a backup that is damaged, or of another key, is told as such', async (t) => {
  const { store, record, kept } = await withRecord(t);
  await store.backups.keep(ROTATION, record.keyId);
  const other = newRecord();
  await store.createRecord(other);
  await store.backups.keep(ROTATION, other.keyId);
  writeFileSync(join(kept, `${record.keyId}.json`), readFileSync(join(kept, `${other.keyId}.json`)));
  await t.throwsAsync(store.backups.read(ROTATION, record.keyId), { instanceOf: DamagedDocument, message: /swapped/ });
  writeFileSync(join(kept, `${record.keyId}.json`), '{');
  await t.throwsAsync(store.backups.read(ROTATION, record.keyId), { instanceOf: DamagedDocument });
});

test('a record that nobody can read is set aside as it is', async (t) => {
  const { store, record, dataDir, kept } = await withRecord(t);
  const file = `${record.keyId}.json`;
  writeFileSync(join(dataDir, 'kms-deks', file), 'no record');
  await store.backups.setAside(ROTATION, record.keyId);
  t.deepEqual(readdirSync(join(dataDir, 'kms-deks')), []);
  t.is(readFileSync(join(kept, file), 'utf8'), 'no record');
});

test('a record that is set aside while an older one is kept goes beside it', async (t) => {
  const { store, record, dataDir, kept } = await withRecord(t);
  await store.backups.keep(ROTATION, record.keyId);
  await store.replaceRecord(next(record));
  const file = `${record.keyId}.json`;
  writeFileSync(join(dataDir, 'kms-deks', file), 'no record');
  await store.backups.setAside(ROTATION, record.keyId);
  t.deepEqual(plain(await store.backups.read(ROTATION, record.keyId)), record);
  t.is(readFileSync(join(kept, `${record.keyId}.set-aside.json`), 'utf8'), 'no record');
});

test('what is no rotation id reaches no path', async (t) => {
  const { store, record, dataDir } = await withRecord(t);
  for (const rotationId of ['..', 'r1', 'r2-0123456789ABCDEF', 'r0-0123456789abcdef', '../r2-0123456789abcdef']) {
    await t.throwsAsync(store.backups.keep(rotationId, record.keyId), { code: 'INVALID_ARGUMENT' }, rotationId);
  }
  t.deepEqual(readdirSync(dataDir), ['kms-deks']);
});
