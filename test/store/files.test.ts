import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KmsError } from '../../dist/errors.js';
import { nodeFileSystem } from '../../dist/store/file-system.js';
import { openFileStore } from '../../dist/store/files.js';
import { DamagedDocument, type KeyStore } from '../../dist/store/key-store.js';
import { keyStoreContract } from './contract.js';
import { newDataDir, openedStore, temporaries } from './data-dir.js';
import { newKeyring, newRecord, next, plain } from './documents.js';

keyStoreContract(test, async (t) => openedStore(t, newDataDir(t)));

const mode = (path: string) => (lstatSync(path).mode & 0o7777).toString(8);

async function damaged(t: ExecutionContext, store: KeyStore, keyId: string, reason: RegExp): Promise<void> {
  const read = await t.throwsAsync(store.readRecord(keyId), { instanceOf: DamagedDocument }, 'asynchronous');
  const readSync = t.throws(() => store.readRecordSync(keyId), { instanceOf: DamagedDocument }, 'blocking');
  t.regex(read?.message ?? '', reason);
  t.is(readSync?.message, read?.message);
}

test('directories are made 0700, files 0600, and the parents that were missing too', async (t) => {
  const dataDir = join(newDataDir(t), 'not', 'there');
  const store = await openedStore(t, dataDir);
  await store.writeKeyring(newKeyring(1));
  const record = newRecord();
  await store.createRecord(record);
  await store.replaceRecord(next(record));
  t.is(mode(dataDir), '700');
  t.is(mode(join(dataDir, '..')), '700');
  t.is(mode(join(dataDir, 'kms-deks')), '700');
  t.is(mode(join(dataDir, 'keyring.json')), '600');
  t.is(mode(join(dataDir, 'kms-deks', `${record.keyId}.json`)), '600');
  t.deepEqual(readdirSync(join(dataDir, 'kms-deks')), [`${record.keyId}.json`]);
});

test('documents are JSON with two spaces, members in the order of the tables, and a final newline', async (t) => {
  const dataDir = newDataDir(t);
  const store = await openedStore(t, dataDir);
  const record = newRecord();
  const keyring = newKeyring(3);
  await store.createRecord(record);
  await store.writeKeyring(keyring);
  const text = readFileSync(join(dataDir, 'kms-deks', `${record.keyId}.json`), 'utf8');
  t.is(text, `${JSON.stringify(JSON.parse(text), null, 2)}\n`);
  t.is(
    Object.keys(JSON.parse(text)).join(' '),
    'format store_id key_id thread_id alg state version wrapped kek_id kek_version uses_reserved created_at updated_at created_by mac',
  );
  t.is(JSON.parse(text).wrapped, Buffer.from(record.wrapped).toString('base64'));
  const ring = JSON.parse(readFileSync(join(dataDir, 'keyring.json'), 'utf8'));
  t.is(Object.keys(ring).join(' '), 'format store_id generation slots keks record_mac audit_keys default_key_id sha256 mac');
  t.is(Object.keys(ring.slots[0]).join(' '), 'slot_id kind state expires_at salt root slot_key created_at');
  t.is(Object.keys(ring.keks[0]).join(' '), 'kek_id kek_version state wrapped wraps_reserved created_at');
  t.is(Object.keys(ring.audit_keys[0]).join(' '), 'public wrapped created_at');
  t.is(ring.sha256, Buffer.from(keyring.sha256).toString('hex'));
});

test('a store opened again finds what was written', async (t) => {
  const dataDir = newDataDir(t);
  const first = await openFileStore({ dataDir });
  const record = newRecord();
  const keyring = newKeyring(1);
  await first.createRecord(record);
  await first.writeKeyring(keyring);
  await first.close();
  const second = await openedStore(t, dataDir);
  t.deepEqual(plain(await second.readRecord(record.keyId)), record);
  t.deepEqual(plain(await second.readKeyring()), keyring);
  t.deepEqual(await second.listKeyIds(undefined, 10), [record.keyId]);
});

for (const [what, path, wide, mend] of [
  ['data directory', '', 0o750, 'chmod 700 '],
  ['record directory', 'kms-deks', 0o701, 'chmod 700 '],
  ['keyring', 'keyring.json', 0o640, 'chmod 600 '],
] as const) {
  test(`a ${what} that others can reach is refused with the command that mends it`, async (t) => {
    const dataDir = newDataDir(t);
    const store = await openFileStore({ dataDir });
    await store.writeKeyring(newKeyring(1));
    await store.close();
    chmodSync(join(dataDir, path), wide);
    const error = await t.throwsAsync(openFileStore({ dataDir }), { instanceOf: KmsError });
    t.is(error?.code, 'PERMISSION_DENIED');
    t.true(error?.message.endsWith(mend + join(dataDir, path)), error?.message);
    chmodSync(join(dataDir, path), Number.parseInt(mend.slice(6), 8));
    await t.notThrowsAsync(openedStore(t, dataDir));
  });
}

test('a keyring that became readable to others while the store was open is refused', async (t) => {
  const dataDir = newDataDir(t);
  const store = await openedStore(t, dataDir);
  await store.writeKeyring(newKeyring(1));
  chmodSync(join(dataDir, 'keyring.json'), 0o644);
  const error = await t.throwsAsync(store.readKeyring(), { instanceOf: KmsError });
  t.is(error?.code, 'PERMISSION_DENIED');
});

test('the mending command can be pasted whatever the path holds', async (t) => {
  const dataDir = join(newDataDir(t), "o'dd $dir");
  mkdirSync(dataDir, { recursive: true, mode: 0o755 });
  chmodSync(dataDir, 0o755);
  const error = await t.throwsAsync(openFileStore({ dataDir }), { instanceOf: KmsError });
  t.true(error?.message.endsWith(`chmod 700 '${dataDir.replace("'", "'\\''")}'`), error?.message);
});

test("a directory of another owner is refused, and only root may use somebody else's", async (t) => {
  const dataDir = newDataDir(t);
  await (await openFileStore({ dataDir })).close();
  const stranger = lstatSync(dataDir).uid + 1;
  const error = await t.throwsAsync(openFileStore({ dataDir, fileSystem: { ...nodeFileSystem, effectiveUid: () => stranger } }), {
    instanceOf: KmsError,
  });
  t.is(error?.code, 'PERMISSION_DENIED');
  t.regex(error?.message ?? '', new RegExp(`chown ${stranger} `));
  const root = await openFileStore({ dataDir, fileSystem: { ...nodeFileSystem, effectiveUid: () => 0 } });
  await t.notThrowsAsync(root.close());
});

test('a file in the place of the data directory is refused', async (t) => {
  const dataDir = join(newDataDir(t), 'file');
  writeFileSync(dataDir, '', { mode: 0o600 });
  const error = await t.throwsAsync(openFileStore({ dataDir }), { instanceOf: KmsError });
  t.is(error?.code, 'STORE_UNAVAILABLE');
});

test('temporary files of a crash are removed at open, and nothing else is', async (t) => {
  const dataDir = newDataDir(t);
  const store = await openFileStore({ dataDir });
  const record = newRecord();
  await store.createRecord(record);
  await store.close();
  const random = '00ff'.repeat(4);
  const left = [
    `.keyring.json.${random}.tmp`,
    `kms-deks/.probe.${random}.tmp`,
    `kms-deks/.${record.keyId}.json.${random}.tmp`,
    `kms-deks/.k_0.json.${random}.tmp`,
  ];
  const others = [
    '.vimrc.tmp',
    `.other.json.${random}.tmp`,
    '.keyring.json.00ff.tmp',
    `.keyring.json.${random}.tmp.tmp`,
    `kms-deks/.k_A.json.${random}.tmp`,
    `kms-deks/.k_0.json.${random}0.tmp`,
    `kms-deks/k_0.json.${random}.tmp`,
    'kms-deks/notes.tmp',
  ];
  for (const name of [...left, ...others]) writeFileSync(join(dataDir, name), 'x');
  const directory = `kms-deks/.k_1.json.${random}.tmp`;
  mkdirSync(join(dataDir, directory));
  const again = await openedStore(t, dataDir);
  for (const name of left) t.false(existsSync(join(dataDir, name)), name);
  for (const name of [...others, directory]) t.true(existsSync(join(dataDir, name)), name);
  t.deepEqual(await again.listKeyIds(undefined, 10), [record.keyId]);
});

test('a record under another name than its own is refused as swapped', async (t) => {
  const dataDir = newDataDir(t);
  const store = await openedStore(t, dataDir);
  const record = newRecord();
  await store.createRecord(record);
  renameSync(join(dataDir, 'kms-deks', `${record.keyId}.json`), join(dataDir, 'kms-deks', 'k_other.json'));
  await damaged(t, store, 'k_other', new RegExp(`^swapped: .*${record.keyId}$`));
  t.is(await store.readRecord(record.keyId), undefined);
});

test('a symbolic link, a directory and an overlong file in the place of a record are refused', async (t) => {
  const dataDir = newDataDir(t);
  const store = await openedStore(t, dataDir);
  const record = newRecord();
  await store.createRecord(record);
  const at = (keyId: string) => join(dataDir, 'kms-deks', `${keyId}.json`);
  symlinkSync(at(record.keyId), at('k_link'));
  mkdirSync(at('k_dir'));
  writeFileSync(at('k_long'), `${readFileSync(at(record.keyId), 'utf8')}${' '.repeat(4096)}`);
  await damaged(t, store, 'k_link', /symbolic link/);
  await damaged(t, store, 'k_dir', /not a regular file/);
  await damaged(t, store, 'k_long', /limit is 4096/);
  t.is(store.fault(), null, 'a bad record does not stop the others');
});

test('a symbolic link in the place of the keyring is refused', async (t) => {
  const dataDir = newDataDir(t);
  const store = await openedStore(t, dataDir);
  await store.writeKeyring(newKeyring(1));
  renameSync(join(dataDir, 'keyring.json'), join(dataDir, 'elsewhere'));
  symlinkSync('elsewhere', join(dataDir, 'keyring.json'));
  await t.throwsAsync(store.readKeyring(), { instanceOf: DamagedDocument, message: /symbolic link/ });
});

test('a damaged record says why, is not overwritten, and leaves the others alone', async (t) => {
  const dataDir = newDataDir(t);
  const store = await openedStore(t, dataDir);
  const [good, bad] = [newRecord(), newRecord()];
  await store.createRecord(good);
  await store.createRecord(bad);
  const path = join(dataDir, 'kms-deks', `${bad.keyId}.json`);
  const text = readFileSync(path, 'utf8').slice(0, 100);
  writeFileSync(path, text);
  await damaged(t, store, bad.keyId, /./);
  await t.throwsAsync(store.replaceRecord(next(bad)), { instanceOf: DamagedDocument });
  t.throws(() => store.replaceRecordSync(next(bad)), { instanceOf: DamagedDocument });
  t.is(readFileSync(path, 'utf8'), text);
  t.deepEqual(temporaries(dataDir), []);
  t.deepEqual(plain(await store.readRecord(good.keyId)), good);
  t.is(store.fault(), null);
});

test('a record of a newer format is refused by name', async (t) => {
  const dataDir = newDataDir(t);
  const store = await openedStore(t, dataDir);
  const record = newRecord();
  await store.createRecord(record);
  const path = join(dataDir, 'kms-deks', `${record.keyId}.json`);
  writeFileSync(path, readFileSync(path, 'utf8').replace('"format": 1', '"format": 2'));
  const error = await t.throwsAsync(store.readRecord(record.keyId), { instanceOf: DamagedDocument, message: /format/ });
  t.like(error?.cause, { code: 'UNSUPPORTED' });
});

test('a damaged keyring says so', async (t) => {
  const dataDir = newDataDir(t);
  const store = await openedStore(t, dataDir);
  await store.writeKeyring(newKeyring(1));
  writeFileSync(join(dataDir, 'keyring.json'), '{}');
  await t.throwsAsync(store.readKeyring(), { instanceOf: DamagedDocument });
});

test('an id that is none never reaches a path', async (t) => {
  const store = await openedStore(t, newDataDir(t));
  for (const keyId of ['../keyring', 'k_', 'k_A', 'k_a/b', `k_${'a'.repeat(65)}`]) {
    for (const call of [
      () => store.readRecord(keyId),
      () => store.readRecordSync(keyId),
      () => store.createRecord(newRecord({ keyId })),
      () => store.replaceRecordSync(newRecord({ keyId })),
    ]) {
      const error = await t.throwsAsync(async () => call(), { instanceOf: KmsError }, keyId);
      t.is(error?.code, 'INVALID_ARGUMENT');
    }
  }
});

test('a record that could not be read back is not written', async (t) => {
  const dataDir = newDataDir(t);
  const store = await openedStore(t, dataDir);
  const error = await t.throwsAsync(store.createRecord(newRecord({ threadId: 'x'.repeat(4096) })), { instanceOf: KmsError });
  t.is(error?.code, 'TOO_LARGE');
  t.deepEqual(readdirSync(join(dataDir, 'kms-deks')), []);
});

test('a document that the strict reader would refuse is not written, and what was there stays', async (t) => {
  const dataDir = newDataDir(t);
  const store = await openedStore(t, dataDir);
  const record = newRecord();
  const keyring = newKeyring(1);
  await store.createRecord(record);
  await store.writeKeyring(keyring);
  const unreadable = { threadId: 'a space' };
  const writes = [
    () => store.createRecord(newRecord(unreadable)),
    () => store.createRecord(newRecord({ version: 0 })),
    () => store.replaceRecord(next(record, unreadable)),
    () => store.replaceRecordSync(next(record, { mac: new Uint8Array(31) })),
    () => store.writeKeyring({ ...newKeyring(2), slots: [] }),
  ];
  for (const [index, write] of writes.entries()) {
    const error = await t.throwsAsync(async () => write(), { instanceOf: KmsError }, `write ${index}`);
    t.is(error?.code, 'INTERNAL');
    t.truthy(error?.cause, 'which says what is wrong with it');
  }
  t.deepEqual(readdirSync(join(dataDir, 'kms-deks')), [`${record.keyId}.json`]);
  t.deepEqual(temporaries(dataDir), []);
  t.deepEqual(plain(await store.readRecord(record.keyId)), record);
  t.deepEqual(plain(await store.readKeyring()), keyring);
  t.is(store.fault(), null);
});

test('records put in place or taken away by hand show in the next listing', async (t) => {
  const dataDir = newDataDir(t);
  const store = await openedStore(t, dataDir);
  const record = newRecord({ keyId: 'k_b' });
  await store.createRecord(record);
  t.deepEqual(await store.listKeyIds(undefined, 10), ['k_b']);
  const at = (name: string) => join(dataDir, 'kms-deks', name);
  writeFileSync(at('k_a.json'), readFileSync(at('k_b.json')));
  writeFileSync(at('K_not.json'), '');
  t.deepEqual(await store.listKeyIds(undefined, 10), ['k_a', 'k_b']);
  renameSync(at('k_a.json'), at('k_c.json'));
  t.deepEqual(await store.listKeyIds(undefined, 10), ['k_b', 'k_c']);
});

test('a change within the same tick of the clock as the last listing shows in the next one', async (t) => {
  const dataDir = newDataDir(t);
  const store = await openedStore(t, dataDir);
  await store.createRecord(newRecord({ keyId: 'k_b' }));
  const records = join(dataDir, 'kms-deks');
  // A tick that no test is slow enough to outlive.
  const tick = Math.ceil(Date.now() / 1000) + 3_600;
  utimesSync(records, tick, tick);
  t.deepEqual(await store.listKeyIds(undefined, 10), ['k_b']);
  writeFileSync(join(records, 'k_a.json'), '');
  utimesSync(records, tick, tick);
  t.deepEqual(await store.listKeyIds(undefined, 10), ['k_a', 'k_b']);
});

test('a listing of a directory at rest does not read it again', async (t) => {
  let scans = 0;
  const readdir = (path: string) => {
    scans += 1;
    return nodeFileSystem.readdir(path);
  };
  const dataDir = newDataDir(t);
  const store = await openedStore(t, dataDir, { ...nodeFileSystem, readdir });
  await store.createRecord(newRecord({ keyId: 'k_a' }));
  utimesSync(join(dataDir, 'kms-deks'), 1_700_000_000, 1_700_000_000);
  await store.listKeyIds(undefined, 1);
  const first = scans;
  await store.createRecord(newRecord({ keyId: 'k_b' }));
  t.deepEqual(await store.listKeyIds('k_a', 1), ['k_b'], 'a later page beside a write');
  utimesSync(join(dataDir, 'kms-deks'), 1_700_000_000, 1_700_000_000);
  t.deepEqual(await store.listKeyIds(undefined, 5), ['k_a', 'k_b']);
  t.is(scans, first);
});

test('a thousand creates at once do not run out of descriptors and are all there', async (t) => {
  const dataDir = newDataDir(t);
  const open = { now: 0, most: 0 };
  const fileSystem = {
    ...nodeFileSystem,
    open: async (path: string, flags: number, fileMode: number) => {
      open.now += 1;
      open.most = Math.max(open.most, open.now);
      return nodeFileSystem.open(path, flags, fileMode);
    },
    close: async (fd: number) => {
      open.now -= 1;
      return nodeFileSystem.close(fd);
    },
  };
  const store = await openedStore(t, dataDir, fileSystem);
  const records = Array.from({ length: 1000 }, () => newRecord());
  await Promise.all(records.map((record) => store.createRecord(record)));
  t.true(open.most < 100, `${open.most} files were open at once`);
  const read = await Promise.all(records.map((record) => store.readRecord(record.keyId)));
  t.deepEqual(plain(read), records);
});

test('a data directory that is gone is not taken for a store without keys', async (t) => {
  const dataDir = newDataDir(t);
  const store = await openedStore(t, dataDir);
  const record = newRecord();
  await store.createRecord(record);
  t.is(await store.readRecord('k_absent'), undefined);
  renameSync(join(dataDir, 'kms-deks'), join(dataDir, 'elsewhere'));
  mkdirSync(join(dataDir, 'kms-deks'), 0o700);
  const gone = { code: 'STORE_UNAVAILABLE', message: /kms-deks is gone/ };
  await t.throwsAsync(store.readRecord(record.keyId), gone);
  t.throws(() => store.readRecordSync(record.keyId), gone);
});
