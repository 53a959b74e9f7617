import test from 'ava';
import { DirectorySync } from '../../dist/store/directory-sync.js';
import { nodeFileSystem } from '../../dist/store/file-system.js';
import { newDataDir, openedStore } from './data-dir.js';
import { newKeyring, newRecord, next } from './documents.js';
import { interceptedFileSystem } from './intercepted.js';

interface Noted {
  op: string;
  of: string;
  began: number;
  ended: number;
}

/** A file system that notes when each call began and ended, on one counter. */
function recorder() {
  const noted: Noted[] = [];
  let clock = 0;
  const tick = () => ++clock;
  const fileSystem = interceptedFileSystem(({ op, of }, proceed) => {
    const entry: Noted = { op, of, began: tick(), ended: Number.POSITIVE_INFINITY };
    noted.push(entry);
    const result = proceed();
    if (!(result instanceof Promise)) entry.ended = tick();
    return result instanceof Promise
      ? result.finally(() => {
          entry.ended = tick();
        })
      : result;
  });
  return { noted, tick, fileSystem };
}

function only(noted: Noted[], op: string, of: string): Noted {
  const found = noted.filter((entry) => entry.op === op && entry.of === of);
  if (found.length !== 1) throw new Error(`${found.length} calls of ${op} on ${of}`);
  return found[0] as Noted;
}

test('64 concurrent creates: each file durable before its name, the name before the answer, few directory fsyncs', async (t) => {
  const { noted, tick, fileSystem } = recorder();
  const store = await openedStore(t, newDataDir(t), fileSystem);
  noted.length = 0;
  const answered = new Map<string, number>();
  const records = Array.from({ length: 64 }, () => newRecord());
  await Promise.all(
    records.map(async (record) => {
      await store.createRecord(record);
      answered.set(record.keyId, tick());
    }),
  );
  const directorySyncs = noted.filter(({ op, of }) => op === 'fsync' && of === 'kms-deks');
  for (const { keyId } of records) {
    const temporary = `.${keyId}.json.tmp`;
    const write = only(noted, 'write', temporary);
    const fsync = only(noted, 'fsync', temporary);
    const link = only(noted, 'link', temporary);
    t.true(write.ended < fsync.began && fsync.ended < link.began);
    t.true(link.ended < only(noted, 'unlink', temporary).began);
    const answer = answered.get(keyId) as number;
    t.true(directorySyncs.some((sync) => sync.began > link.ended && sync.ended < answer));
  }
  t.true(directorySyncs.length < records.length, `${directorySyncs.length} directory fsyncs`);
});

test('replaces, blocking replaces and keyring writes keep the same order', async (t) => {
  const { noted, tick, fileSystem } = recorder();
  const store = await openedStore(t, newDataDir(t), fileSystem);
  const record = newRecord();
  await store.createRecord(record);
  const file = `.${record.keyId}.json.tmp`;
  const writes = [
    { of: file, directory: 'kms-deks', suffix: '', write: () => store.replaceRecord(next(record)) },
    { of: file, directory: 'kms-deks', suffix: 'Sync', write: () => store.replaceRecordSync(next(next(record))) },
    { of: '.keyring.json.tmp', directory: undefined, suffix: '', write: () => store.writeKeyring(newKeyring(1)) },
  ];
  for (const { of, directory, suffix, write } of writes) {
    noted.length = 0;
    await write();
    const answer = tick();
    const fsync = only(noted, `fsync${suffix}`, of);
    const rename = only(noted, 'renameSync', of);
    const sync = noted.find((entry) => entry.op === `fsync${suffix}` && entry.began > rename.ended);
    t.true(only(noted, `write${suffix}`, of).ended < fsync.began && fsync.ended < rename.began);
    t.true(sync !== undefined && sync.ended < answer && (directory === undefined || sync.of === directory));
  }
});

test('an asynchronous replace reads, compares and renames without a step of anybody else in between', async (t) => {
  const { noted, fileSystem } = recorder();
  const store = await openedStore(t, newDataDir(t), fileSystem);
  const records = Array.from({ length: 8 }, () => newRecord());
  await Promise.all(records.map((record) => store.createRecord(record)));
  noted.length = 0;
  await Promise.all(records.map((record) => store.replaceRecord(next(record))));
  for (const { keyId } of records) {
    const from = noted.findIndex(({ op, of }) => op === 'openSync' && of === `${keyId}.json`);
    const to = noted.findIndex(({ op, of }) => op === 'renameSync' && of === `.${keyId}.json.tmp`);
    t.true(from >= 0 && to > from);
    for (const { op } of noted.slice(from, to)) t.true(op.endsWith('Sync'), op);
  }
});

test('a directory fsync under way is not shared by a caller that came after it began', async (t) => {
  const finish: Array<() => void> = [];
  const fsync = () => new Promise<void>((resolve) => finish.push(resolve));
  const directory = new DirectorySync({ ...nodeFileSystem, fsync }, 0);
  const done: string[] = [];
  const first = directory.run().then(() => done.push('first'));
  const late = ['second', 'third'].map((name) => directory.run().then(() => done.push(name)));
  t.is(finish.length, 1);
  finish[0]?.();
  await first;
  t.deepEqual(done, ['first']);
  t.is(finish.length, 2, 'the late ones share the next');
  finish[1]?.();
  await Promise.all(late);
  t.deepEqual(done, ['first', 'second', 'third']);
  t.is(finish.length, 2);
});

test('a failed directory fsync fails every caller that waited for it, and not those of the next', async (t) => {
  const finish: Array<(error?: Error) => void> = [];
  const fsync = () => new Promise<void>((resolve, reject) => finish.push((error) => (error ? reject(error) : resolve())));
  const directory = new DirectorySync({ ...nodeFileSystem, fsync }, 0);
  const first = directory.run();
  const late = [directory.run(), directory.run()];
  finish[0]?.();
  await first;
  finish[1]?.(new Error('lost'));
  for (const waiting of late) await t.throwsAsync(waiting, { message: 'lost' });
  const after = directory.run();
  finish[2]?.();
  await t.notThrowsAsync(after);
});
