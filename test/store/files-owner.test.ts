import { chownSync, lstatSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { createEmbeddedKms } from '../../dist/create.js';
import { binding } from '../../dist/native.js';
import { skipped } from '../secrets/scanner.js';
import { newDataDir, openedStore } from './data-dir.js';
import { newKeyring, newRecord, next } from './documents.js';
import { type Call, interceptedFileSystem } from './intercepted.js';

const hindrance = process.geteuid?.() === 0 ? undefined : 'needs root to work on the store of another user';
const SERVICE = { uid: 12_345, gid: 12_346 };

function given(t: ExecutionContext, dataDir: string): void {
  const paths = readdirSync(dataDir, { recursive: true, encoding: 'utf8' }).map((name) => join(dataDir, name));
  for (const path of [dataDir, ...paths]) {
    const { uid, gid, mode } = lstatSync(path);
    t.deepEqual({ uid, gid }, SERVICE, path);
    t.is(mode & 0o077, 0, path);
  }
}

/** A directory of the service's user, with one for records in it. */
function serviceDir(t: ExecutionContext): string {
  const dataDir = newDataDir(t);
  const recordsDir = join(dataDir, 'kms-deks');
  mkdirSync(recordsDir, 0o700);
  for (const path of [dataDir, recordsDir]) chownSync(path, SERVICE.uid, SERVICE.gid);
  return dataDir;
}

test('what root writes in the directory of another user belongs to that user before it has its name', async (t) => {
  if (skipped(t, hindrance)) return;
  const dataDir = serviceDir(t);
  const calls: Call[] = [];
  const fileSystem = interceptedFileSystem((call, proceed) => {
    calls.push(call);
    return proceed();
  });
  const store = await openedStore(t, dataDir, fileSystem);
  const record = newRecord();
  const file = `.${record.keyId}.json.tmp`;
  const writes = [
    { of: file, write: () => store.createRecord(record) },
    { of: file, write: () => store.replaceRecord(next(record)) },
    { of: file, write: () => store.replaceRecordSync(next(next(record))) },
    { of: '.keyring.json.tmp', write: () => store.writeKeyring(newKeyring(1)) },
  ];
  for (const { of, write } of writes) {
    calls.length = 0;
    await write();
    given(t, dataDir);
    const steps = calls.filter((call) => call.of === of).map(({ op }) => op.replace('Sync', ''));
    const order = steps.filter((op) => /^(fchown|write|fsync|link|rename)$/.test(op));
    t.deepEqual(order.slice(0, 3), ['fchown', 'write', 'fsync'], 'so that the fsync makes it durable too');
    t.regex(order[3] ?? '', /link|rename/);
  }
});

test('a service whose store root has made or used can still open it: directories and lock are its own', async (t) => {
  if (skipped(t, hindrance)) return;
  const dataDir = newDataDir(t);
  chownSync(dataDir, SERVICE.uid, SERVICE.gid);
  const masterKeyFile = join(newDataDir(t), 'master.key');
  binding.writeKeyFile(masterKeyFile);
  const kms = await createEmbeddedKms({ dataDir, masterKeyFile });
  await kms.createDek();
  await kms.close();
  t.deepEqual(readdirSync(dataDir).sort(), ['keyring.json', 'kms-audit.log', 'kms-audit.reserve', 'kms-deks', 'lock']);
  given(t, dataDir);
  rmSync(join(dataDir, 'lock'));
  await (await createEmbeddedKms({ dataDir, masterKeyFile })).close();
  given(t, dataDir);
});

test('a file of root that another user put under the name of the lock is not given away', async (t) => {
  if (skipped(t, hindrance)) return;
  const dataDir = serviceDir(t);
  const lock = join(dataDir, 'lock');
  writeFileSync(lock, 'a secret of root', { mode: 0o600 });
  await openedStore(t, dataDir);
  t.is(lstatSync(lock).uid, 0);
});

test("in root's own directory nothing is given to anybody", async (t) => {
  if (skipped(t, hindrance)) return;
  const dataDir = newDataDir(t);
  const calls: string[] = [];
  const fileSystem = interceptedFileSystem(({ op }, proceed) => {
    calls.push(op);
    return proceed();
  });
  const store = await openedStore(t, dataDir, fileSystem);
  await store.createRecord(newRecord());
  t.true(calls.includes('fsync'));
  t.deepEqual(
    calls.filter((op) => op.includes('chown')),
    [],
  );
});
