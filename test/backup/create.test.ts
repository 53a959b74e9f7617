import { createHash, createHmac, hkdfSync } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { createToken } from '../../dist/daemon/token-writer.js';
import { binding } from '../../dist/native.js';
import { nodeFileSystem } from '../../dist/store/file-system.js';
import { type RecordJson, readJson, recordPath, rewriteRecord } from '../provider/edited.js';
import { refused } from '../provider/refused.js';
import { newPlace, openAt } from '../provider/subjects.js';
import { openedStore, readMasterKey } from '../secrets/opened-store.js';
import { interceptedFileSystem, systemError } from '../store/intercepted.js';
import { checkBackup } from './checked.js';
import { backupOf, entriesOf, filled, pathIn } from './ground.js';

function temporariesIn(directory: string): string[] {
  return readdirSync(directory).filter((name) => name.endsWith('.tmp'));
}

test('a backup holds every record, the keyring and the tokens as their files do, and its digest and MAC can be checked by anybody', async (t) => {
  const { place, kms } = await filled(t);
  await createToken(place.dataDir, { roles: ['client'] });
  writeFileSync(
    join(place.dataDir, 'kms-audit.log'),
    '{"event":{"seq":7,"time":"x","type":"checkpoint","generation":3}}\n{"event":{"seq":8,"a":1}}\n{"ev',
  );
  const path = pathIn(place);
  const made = await backupOf(kms, path);
  const entries = entriesOf(path);
  const names = readdirSync(join(place.dataDir, 'kms-deks')).sort();
  t.is(names.length, 4);
  t.deepEqual(
    entries.slice(0, 4).map(({ type, bytes }) => [type, bytes.toString()]),
    names.map((name) => ['R', readFileSync(join(place.dataDir, 'kms-deks', name), 'utf8')]),
  );
  t.deepEqual(
    entries
      .slice(4)
      .map(({ type }) => type)
      .join(''),
    'KTAMS',
  );
  const [keyring, tokens, audit, manifest, seal] = entries.slice(4).map(({ bytes }) => bytes) as Buffer[];
  t.deepEqual(keyring, readFileSync(join(place.dataDir, 'keyring.json')));
  t.deepEqual(tokens, readFileSync(join(place.dataDir, 'tokens.json')));
  const { store_id, generation } = JSON.parse(keyring!.toString());
  t.deepEqual(JSON.parse(audit!.toString()), {
    seq: 8,
    sha256: createHash('sha256').update('{"event":{"seq":8,"a":1}}').digest('hex'),
    checkpoint: '{"event":{"seq":7,"time":"x","type":"checkpoint","generation":3}}',
  });
  const { created_at, ...told } = JSON.parse(manifest!.toString());
  t.regex(created_at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  t.deepEqual(told, { format: 1, store_id, generation, created_by: 'uid:0', records: 4, left_out: [] });
  const digest = createHash('sha256').update(readFileSync(path).subarray(0, -69)).digest();
  const root = openedStore(place.dataDir, place.masterKeyFile).keys.get('root')!;
  const key = Buffer.from(hkdfSync('sha256', root, store_id, 'progressdb-kms/backup-mac/v1', 32));
  const fields = ['progressdb-kms/backup/v1', store_id, String(generation), digest].map((field) => Buffer.from(field));
  const lp = Buffer.concat(fields.flatMap((field) => [Buffer.from([0, 0, 0, field.length]), field]));
  t.deepEqual(seal, Buffer.concat([digest, createHmac('sha256', key).update(lp).digest()]));
  t.like(made, { path, records: 4, leftOut: [], storeId: store_id, bytes: statSync(path).size });
  t.is(statSync(path).mode & 0o777, 0o600);
  t.deepEqual(temporariesIn(place.directory), []);
});

test('a backup holds no key but wrapped ones', async (t) => {
  const { place, kms } = await filled(t);
  const path = pathIn(place);
  await backupOf(kms, path);
  const file = readFileSync(path);
  const { keys, deks } = openedStore(place.dataDir, place.masterKeyFile);
  const all = [readMasterKey(place.masterKeyFile), ...keys.values(), ...deks.values()];
  t.true(all.length > 6);
  for (const key of all) {
    for (const form of [key, Buffer.from(key.toString('hex')), Buffer.from(key.toString('base64'))]) t.is(file.indexOf(form), -1);
  }
  t.true(
    file.includes(openedStore(place.dataDir, place.masterKeyFile).wrapped.values().next().value!.toString('base64')),
    'one would be found',
  );
});

test('a file that is there is never overwritten, not even a link to nothing, and nothing is left beside it', async (t) => {
  const { place, kms } = await filled(t);
  const path = pathIn(place);
  writeFileSync(path, 'older');
  await refused(t, backupOf(kms, path), 'CONFLICT', /is there already$/);
  t.is(readFileSync(path, 'utf8'), 'older');
  const link = pathIn(place, 'link');
  symlinkSync(join(place.directory, 'nowhere'), link);
  await refused(t, backupOf(kms, link), 'CONFLICT', /is there already$/);
  t.deepEqual(temporariesIn(place.directory), []);
});

test('a file that comes into being while the backup is written stays as it is', async (t) => {
  const { place, kms } = await filled(t);
  const path = pathIn(place);
  const fileSystem = interceptedFileSystem(({ op }, proceed) => {
    if (op === 'link') writeFileSync(path, 'quicker');
    return proceed();
  });
  await refused(t, backupOf(kms, path, { fileSystem }), 'CONFLICT', /is there already$/);
  t.is(readFileSync(path, 'utf8'), 'quicker');
  t.deepEqual(temporariesIn(place.directory), []);
});

test('a backup is not put where others could replace it, nor into the data directory', async (t) => {
  const { place, kms } = await filled(t);
  const open = mkdtempSync(join(tmpdir(), 'kms-open-'));
  t.teardown(() => rmSync(open, { recursive: true, force: true }));
  chmodSync(open, 0o777);
  await refused(t, backupOf(kms, join(open, 'x')), 'PERMISSION_DENIED', /can be written to by others: chmod go-w/);
  chmodSync(open, 0o1777);
  await t.notThrowsAsync(backupOf(kms, join(open, 'x')));
  await refused(t, backupOf(kms, join(place.dataDir, 'x')), 'INVALID_ARGUMENT', /in the data directory itself/);
  mkdirSync(join(place.dataDir, 'inner'), { mode: 0o700 });
  await refused(t, backupOf(kms, join(place.dataDir, 'inner', 'x')), 'INVALID_ARGUMENT', /in the data directory itself/);
  symlinkSync(join(place.dataDir, 'inner'), pathIn(place, 'elsewhere'));
  await refused(t, backupOf(kms, pathIn(place, 'elsewhere/x')), 'INVALID_ARGUMENT', /in the data directory itself/);
  await refused(t, backupOf(kms, pathIn(place, 'no/such')), 'INVALID_ARGUMENT', /cannot be written to: ENOENT$/);
  await refused(t, backupOf(kms, join(place.masterKeyFile, 'x')), 'INVALID_ARGUMENT', /ENOTDIR|not a directory/);
  const others = interceptedFileSystem(({ op }, proceed) => {
    if (op !== 'stat') return proceed();
    return (proceed() as Promise<object>).then((stats) => Object.assign(stats, { uid: 4711 }));
  });
  await refused(t, backupOf(kms, pathIn(place), { fileSystem: others }), 'PERMISSION_DENIED', /belongs to uid 4711/);
});

for (const [op, errno] of [
  ['write', 'ENOSPC'],
  ['fsync', 'EIO'],
  ['link', 'EPERM'],
] as const) {
  test(`a ${op} that fails with ${errno} leaves no file`, async (t) => {
    const { place, kms } = await filled(t);
    const fileSystem = interceptedFileSystem((call, proceed) => {
      if (call.op === op) throw systemError(errno, op);
      return proceed();
    });
    const code = errno === 'EPERM' ? 'PERMISSION_DENIED' : 'STORE_UNAVAILABLE';
    await refused(t, backupOf(kms, pathIn(place), { fileSystem }), code, new RegExp(`${errno} at ${op}`));
    t.false(existsSync(pathIn(place)));
    t.deepEqual(temporariesIn(place.directory), []);
    await t.notThrowsAsync(backupOf(kms, pathIn(place)), 'the store is not touched by it');
  });
}

test('what a crash left is removed by the next backup into that directory, what is being written is not', async (t) => {
  const { place, kms } = await filled(t);
  const left = join(place.directory, '.progressdb-kms-backup.0123456789abcdef.tmp');
  const under = join(place.directory, '.progressdb-kms-backup.fedcba9876543210.tmp');
  const other = join(place.directory, '.progressdb-kms-backup.tmp');
  for (const path of [left, under, other]) writeFileSync(path, 'x', { mode: 0o600 });
  const lock = binding.lockFile(under);
  t.teardown(() => binding.unlock(lock));
  await backupOf(kms, pathIn(place));
  t.deepEqual(
    [left, under, other].map((path) => existsSync(path)),
    [false, true, true],
  );
});

test('a damaged record stops a backup, or is left out and named', async (t) => {
  const { place, kms, active } = await filled(t);
  const record = join(place.dataDir, 'kms-deks', `${active}.json`);
  writeFileSync(record, readFileSync(record, 'utf8').replace('backup/a', 'backup/z'));
  await refused(t, backupOf(kms, pathIn(place)), 'STORE_UNAVAILABLE', new RegExp(`the record of ${active} is damaged`));
  t.false(existsSync(pathIn(place)));
  const made = await backupOf(kms, pathIn(place), { skipDamaged: true });
  t.deepEqual([made.records, made.leftOut], [3, [active]]);
  const manifest = entriesOf(pathIn(place)).find(({ type }) => type === 'M');
  t.deepEqual(JSON.parse(manifest!.bytes.toString()).left_out, [active]);
});

test('a record whose wrapped key does not open stops a backup, genuine as it looks', async (t) => {
  const { place, kms, active, disabled } = await filled(t);
  rewriteRecord(place, active, { wrapped: readJson<RecordJson>(recordPath(place, disabled)).wrapped });
  await refused(t, backupOf(kms, pathIn(place)), 'STORE_UNAVAILABLE', /its wrapped key does not open/);
  t.deepEqual((await backupOf(kms, pathIn(place), { skipDamaged: true })).leftOut, [active]);
});

test('a record that cannot be read now is not passed over as a damaged one', async (t) => {
  const { place, kms, active } = await filled(t);
  const record = join(place.dataDir, 'kms-deks', `${active}.json`);
  const snapshot = kms.snapshot();
  t.teardown(() => snapshot.release());
  const real = nodeFileSystem.open;
  t.teardown(() => Object.assign(nodeFileSystem, { open: real }));
  Object.assign(nodeFileSystem, {
    open: (path: string, flags: number, mode: number) =>
      path === record ? Promise.reject(systemError('EIO', 'open')) : real(path, flags, mode),
  });
  const all = (async () => {
    for await (const one of snapshot.records(() => t.fail('left out'))) t.truthy(one);
  })();
  await refused(t, all, 'STORE_UNAVAILABLE', /EIO/);
});

test('keys that are made and changed during a backup leave it whole', async (t) => {
  const { place, kms } = await filled(t);
  for (let i = 0; i < 100; i += 1) await kms.createDek();
  const before = new Set(readdirSync(join(place.dataDir, 'kms-deks')));
  let stop = false;
  const busy = (async () => {
    while (!stop) {
      const { keyId } = await kms.createDek();
      await kms.disableKey(keyId);
    }
  })();
  await backupOf(kms, pathIn(place));
  stop = true;
  await busy;
  t.deepEqual(await checkBackup(pathIn(place), place), []);
  const held = new Set(
    entriesOf(pathIn(place)).flatMap(({ type, bytes }) => (type === 'R' ? `${JSON.parse(bytes.toString()).key_id}.json` : [])),
  );
  t.deepEqual(
    [...before].filter((name) => !held.has(name)),
    [],
    'all that was there before is in it',
  );
});

test('a sealed store makes no backup, and one that is sealed meanwhile leaves none', async (t) => {
  const { place, kms } = await filled(t);
  const sealing = backupOf(kms, pathIn(place), { onRecord: () => void kms.seal() });
  await refused(t, sealing, 'SEALED');
  t.deepEqual([existsSync(pathIn(place)), temporariesIn(place.directory)], [false, []]);
  await refused(t, () => kms.snapshot(), 'SEALED');
});

test('an empty store has a backup', async (t) => {
  const place = newPlace(t);
  t.is((await backupOf(await openAt(t, place), pathIn(place))).records, 0);
});
