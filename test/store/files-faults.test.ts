import { existsSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KmsError } from '../../dist/errors.js';
import type { KeyMeta, KeyStore } from '../../dist/store/key-store.js';
import { newDataDir, openedStore, temporaries } from './data-dir.js';
import { newKeyring, newRecord, next, plain } from './documents.js';
import { type Call, interceptedFileSystem, systemError } from './intercepted.js';

/** A file system whose calls fail while `fails` says so. */
function faulty() {
  const control = { fails: (_call: Call): string | undefined => undefined, calls: [] as Call[] };
  const fileSystem = interceptedFileSystem((call, proceed) => {
    const errno = control.fails(call);
    control.calls.push(call);
    if (errno !== undefined) throw systemError(errno, call.op);
    return proceed();
  });
  return { control, fileSystem };
}

const never = () => undefined;

async function unavailable(t: ExecutionContext, write: () => Promise<void> | void, what: RegExp): Promise<void> {
  const error = await t.throwsAsync(async () => write(), { instanceOf: KmsError });
  t.is(error?.code, 'STORE_UNAVAILABLE');
  t.regex(error?.message ?? '', what);
}

type Write = (store: KeyStore, record: KeyMeta) => Promise<void> | void;
const WRITES: Array<[name: string, write: Write]> = [
  ['create', (store) => store.createRecord(newRecord())],
  ['replace', (store, record) => store.replaceRecord(next(record))],
  ['blocking replace', (store, record) => store.replaceRecordSync(next(record))],
  ['keyring write', (store) => store.writeKeyring(newKeyring(2))],
];

for (const [name, write] of WRITES) {
  test(`EIO at any step of a ${name} latches the store read-only, and reads go on`, async (t) => {
    const { control, fileSystem } = faulty();
    const trial = await openedStore(t, newDataDir(t), fileSystem);
    const sample = newRecord();
    await trial.createRecord(sample);
    control.calls = [];
    await write(trial, sample);
    const steps = control.calls.map(({ op, of }, index) => ({ op, of, index }));
    // Reading the record that is to be replaced is a read: its failure refuses the write and latches nothing.
    const writing = steps.filter(({ of }) => of !== `${sample.keyId}.json`);
    t.true(writing.length >= 6, JSON.stringify(steps));
    for (const { index, op } of writing) {
      const dataDir = newDataDir(t);
      const store = await openedStore(t, dataDir, fileSystem);
      const record = newRecord();
      await store.createRecord(record);
      await store.writeKeyring(newKeyring(1));
      control.calls = [];
      control.fails = () => (control.calls.length === index ? 'EIO' : undefined);
      const at = new RegExp(`EIO at ${op.replace('Sync', '')}; .*read-only`);
      await t.throwsAsync(async () => write(store, record), { code: 'STORE_UNAVAILABLE' }, `${op} (${index})`);
      control.fails = never;
      t.regex(store.fault() ?? 'null', at);
      for (const [, again] of WRITES) await unavailable(t, () => again(store, record), at);
      const kept = await store.readRecord(record.keyId);
      t.true(kept?.version === 1 || kept?.version === 2, 'old or new, and whole');
      t.deepEqual(plain(store.readRecordSync(record.keyId)), plain(kept));
      t.truthy(await store.readKeyring());
      t.true((await store.listKeyIds(undefined, 10)).includes(record.keyId));
      await store.close();
      const opened = await openedStore(t, dataDir);
      t.is(opened.fault(), null, 'until it is opened again');
      t.deepEqual(temporaries(dataDir), []);
      await t.notThrowsAsync(opened.createRecord(newRecord()));
      await opened.close();
    }
  });

  test(`a full disk at any step of a ${name} fails that write, takes the temporary file away, and ends`, async (t) => {
    const failing = {
      open: 'ENOSPC',
      openSync: 'EDQUOT',
      write: 'EDQUOT',
      writeSync: 'ENOSPC',
      link: 'ENOSPC',
      renameSync: 'ENOSPC',
    };
    let failed = 0;
    for (const [op, errno] of Object.entries(failing)) {
      const { control, fileSystem } = faulty();
      const dataDir = newDataDir(t);
      const store = await openedStore(t, dataDir, fileSystem);
      const record = newRecord();
      await store.createRecord(record);
      control.fails = (call) => (call.op === op && call.of.startsWith('.') ? errno : undefined);
      control.calls = [];
      const outcome = await Promise.resolve()
        .then(() => write(store, record))
        .catch((error: unknown) => error);
      if (!control.calls.some((call) => call.op === op && call.of.startsWith('.'))) continue;
      failed += 1;
      t.is((outcome as KmsError).code, 'STORE_UNAVAILABLE', op);
      t.regex(store.fault() ?? 'null', new RegExp(errno));
      t.deepEqual(temporaries(dataDir), []);
      t.deepEqual(plain(await store.readRecord(record.keyId)), record);
      control.fails = never;
      control.calls = [];
      await write(store, record);
      const probe = control.calls.filter((call) => call.of === '.probe.tmp').map((call) => call.op.replace('Sync', ''));
      t.deepEqual(probe, ['open', 'write', 'fsync', 'close', 'unlink'], 'a probe is written first');
      t.is(control.calls[0]?.of, '.probe.tmp');
      t.is(store.fault(), null);
      t.deepEqual(temporaries(dataDir), []);
    }
    t.true(failed >= 3, `${failed} steps`);
  });
}

test('while the disk stays full the probe fails and nothing of the write is tried', async (t) => {
  const { control, fileSystem } = faulty();
  const store = await openedStore(t, newDataDir(t), fileSystem);
  control.fails = (call) => (call.op.startsWith('write') ? 'ENOSPC' : undefined);
  await unavailable(t, () => store.createRecord(newRecord()), /ENOSPC at write/);
  control.calls = [];
  const record = newRecord();
  await Promise.all(Array.from({ length: 5 }, () => unavailable(t, () => store.createRecord(newRecord()), /ENOSPC/)));
  await unavailable(t, () => store.replaceRecordSync(next(record)), /ENOSPC/);
  t.true(control.calls.length > 0 && control.calls.every(({ of }) => of === '.probe.tmp'));
  t.is(control.calls.filter(({ op }) => op === 'open').length, 1, 'writes at once share one probe');
  t.regex(store.fault() ?? 'null', /no space left/);
  control.fails = never;
  await store.createRecord(record);
  t.is(store.fault(), null);
});

test('a failed fsync latches whatever its errno, and a full disk does not loosen that', async (t) => {
  const { control, fileSystem } = faulty();
  const store = await openedStore(t, newDataDir(t), fileSystem);
  control.fails = (call) => (call.op === 'fsync' ? 'ENOSPC' : undefined);
  await unavailable(t, () => store.createRecord(newRecord()), /ENOSPC at fsync; .*read-only/);
  control.fails = never;
  await unavailable(t, () => store.createRecord(newRecord()), /read-only/);
  t.regex(store.fault() ?? 'null', /ENOSPC at fsync/);
});

test('a probe whose fsync fails latches the store read-only', async (t) => {
  const { control, fileSystem } = faulty();
  const store = await openedStore(t, newDataDir(t), fileSystem);
  control.fails = (call) => (call.op === 'write' ? 'ENOSPC' : undefined);
  await unavailable(t, () => store.createRecord(newRecord()), /ENOSPC/);
  control.fails = (call) => (call.op === 'fsync' ? 'EIO' : undefined);
  await unavailable(t, () => store.createRecord(newRecord()), /EIO at fsync/);
  control.fails = never;
  await unavailable(t, () => store.createRecord(newRecord()), /read-only/);
});

test('writes under way when an fsync is lost are not answered as durable', async (t) => {
  const { control, fileSystem } = faulty();
  const store = await openedStore(t, newDataDir(t), fileSystem);
  let syncs = 0;
  control.fails = (call) => {
    if (call.op !== 'fsync' || call.of !== 'kms-deks') return undefined;
    syncs += 1;
    return syncs === 1 ? 'EIO' : undefined;
  };
  const results = await Promise.allSettled(Array.from({ length: 32 }, () => store.createRecord(newRecord())));
  t.is(syncs >= 1, true);
  for (const result of results) t.is(result.status, 'rejected', 'a later fsync reports success for what the first lost');
});

test('short writes are continued until the whole document is there', async (t) => {
  const fileSystem = interceptedFileSystem(({ op }, proceed, args) => {
    if (op !== 'write' && op !== 'writeSync') return proceed();
    const [fd, bytes, offset] = args as [number, Uint8Array, number];
    const some = bytes.subarray(0, Math.min(bytes.length, offset + 7));
    args.splice(0, 3, fd, some, offset);
    return proceed();
  });
  const store = await openedStore(t, newDataDir(t), fileSystem);
  const record = newRecord();
  await store.createRecord(record);
  t.deepEqual(plain(await store.readRecord(record.keyId)), record);
  await store.replaceRecord(next(record));
  store.replaceRecordSync(next(next(record)));
  t.deepEqual(plain(await store.readRecord(record.keyId)), next(next(record)));
});

test('short reads are continued until the whole document is there', async (t) => {
  const fileSystem = interceptedFileSystem(({ op }, proceed, args) => {
    if (op === 'read' || op === 'readSync') {
      const [fd, into, offset] = args as [number, Uint8Array, number];
      args.splice(0, 3, fd, into.subarray(0, Math.min(into.length, offset + 11)), offset);
    }
    return proceed();
  });
  const store = await openedStore(t, newDataDir(t), fileSystem);
  const record = newRecord();
  await store.createRecord(record);
  t.deepEqual(plain(await store.readRecord(record.keyId)), record);
  t.deepEqual(plain(store.readRecordSync(record.keyId)), record);
});

test('a short write before the disk is full leaves no partial record', async (t) => {
  const dataDir = newDataDir(t);
  let writes = 0;
  const fileSystem = interceptedFileSystem(({ op }, proceed, args) => {
    if (op !== 'write') return proceed();
    writes += 1;
    if (writes > 1) throw systemError('ENOSPC', op);
    const [fd, bytes, offset] = args as [number, Uint8Array, number];
    args.splice(0, 3, fd, bytes.subarray(0, 100), offset);
    return proceed();
  });
  const store = await openedStore(t, dataDir, fileSystem);
  const record = newRecord();
  await unavailable(t, () => store.createRecord(record), /ENOSPC at write/);
  t.is(writes, 2);
  t.false(existsSync(join(dataDir, 'kms-deks', `${record.keyId}.json`)));
  t.deepEqual(temporaries(dataDir), []);
});

test('an unreadable record is an error that latches nothing', async (t) => {
  const { control, fileSystem } = faulty();
  const store = await openedStore(t, newDataDir(t), fileSystem);
  const record = newRecord();
  await store.createRecord(record);
  control.fails = (call) => (call.op.startsWith('read') ? 'EIO' : undefined);
  await unavailable(t, () => store.readRecord(record.keyId).then(() => {}), /EIO at read/);
  await unavailable(t, () => store.replaceRecord(next(record)), /EIO at read/);
  t.throws(() => store.readRecordSync(record.keyId), { code: 'STORE_UNAVAILABLE' });
  t.is(store.fault(), null);
  control.fails = never;
  await t.notThrowsAsync(store.replaceRecord(next(record)));
});

test('any other failure refuses that write alone', async (t) => {
  const { control, fileSystem } = faulty();
  const store = await openedStore(t, newDataDir(t), fileSystem);
  control.fails = (call) => (call.op === 'open' ? 'EMFILE' : undefined);
  await unavailable(t, () => store.createRecord(newRecord()), /EMFILE at open/);
  t.is(store.fault(), null);
  control.fails = never;
  await t.notThrowsAsync(store.createRecord(newRecord()));
});

test('no failure leaves a file descriptor open', async (t) => {
  let open = 0;
  let fail: string | undefined;
  const fileSystem = interceptedFileSystem(async ({ op }, proceed) => {
    if (op === fail) {
      if (op === 'close') await proceed();
      if (op === 'close') open -= 1;
      throw systemError('EACCES', op);
    }
    const result = await proceed();
    if (op === 'open') open += 1;
    if (op === 'close') open -= 1;
    return result;
  });
  const store = await openedStore(t, newDataDir(t), fileSystem);
  const record = newRecord();
  await store.createRecord(record);
  const idle = open;
  for (fail of ['open', 'write', 'close', 'link', 'unlink', 'fstat', 'read']) {
    await Promise.allSettled([store.createRecord(newRecord()), store.readRecord(record.keyId)]);
    t.is(open, idle, fail);
  }
  fail = undefined;
  await store.close();
  t.is(open, 0);
});
