import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import * as lmdb from 'lmdb';
import { KmsError } from '../../dist/errors.js';
import { openLmdbStore } from '../../dist/store/lmdb.js';
import { LmdbEnvironment } from '../../dist/store/lmdb-environment.js';
import { prepareFile } from '../../dist/store/lmdb-file.js';
import { packed } from '../../dist/store/packed.js';
import { openLmdbThreadStore } from '../../dist/threads/lmdb-store.js';
import { newStorePath } from '../threads/lmdb-ground.js';
import { newDataDir } from './data-dir.js';
import { newRecord } from './documents.js';

const KEYS = 2_000;
const TRANSACTION_AT = 152;
const LAST_PAGE_AT = 144;
const pageSizeIn = (bytes: Buffer) => bytes.readUInt32LE(48);

interface Stored {
  dataDir: string;
  file: string;
}

let made: Promise<Buffer> | undefined;

/** The bytes of a file of so many keys. */
async function newFile(t: ExecutionContext): Promise<Buffer> {
  const dataDir = newDataDir(t);
  const store = await openLmdbStore({ dataDir });
  const records = Array.from({ length: KEYS }, () => newRecord());
  await store.packed?.createMany(records.map((record) => ({ keyId: record.keyId, bytes: packed(record) })));
  await store.close();
  return readFileSync(join(dataDir, 'keys.lmdb'));
}

async function stored(t: ExecutionContext): Promise<Stored> {
  made ??= newFile(t);
  const dataDir = newDataDir(t);
  const file = join(dataDir, 'keys.lmdb');
  writeFileSync(file, await made, { mode: 0o600 });
  return { dataDir, file };
}

async function refusal(t: ExecutionContext, opened: Promise<unknown>, why: RegExp, message?: string): Promise<void> {
  const error = await t.throwsAsync(opened, { instanceOf: KmsError }, message);
  t.is(error?.code, 'STORE_UNAVAILABLE', message);
  t.regex(error?.message ?? '', why, message);
}

const entry = (n: number, value: Uint8Array) => ({ key: `r/k_${String(n).padStart(8, '0')}`, value });

/** Where the one of the two first pages begins that counts. */
function liveAt(bytes: Buffer): number {
  const second = pageSizeIn(bytes);
  return bytes.readBigUInt64LE(second + TRANSACTION_AT) > bytes.readBigUInt64LE(TRANSACTION_AT) ? second : 0;
}

test('a file that was cut is refused, wherever the cut is, as long as anything is gone', async (t) => {
  const { dataDir, file } = await stored(t);
  const whole = readFileSync(file);
  let [refused, opened] = [0, 0];
  for (let bytes = whole.length - 1; bytes > 0; bytes -= Math.floor(whole.length / 23)) {
    writeFileSync(file, whole.subarray(0, bytes));
    try {
      const store = await openLmdbStore({ dataDir });
      // What a cut took was given back by then: everything there was is still read.
      const ids = await store.listKeyIds(undefined, KEYS + 1);
      for (const keyId of ids) t.is((await store.readRecord(keyId))?.keyId, keyId);
      t.is(ids.length, KEYS);
      await store.close();
      opened += 1;
    } catch (error) {
      t.regex(
        (error as Error).message,
        /keys\.lmdb is (shorter than what was committed|no LMDB file).*: restore it from a backup/,
      );
      refused += 1;
    }
  }
  t.true(refused >= 20, `${refused} refused, ${opened} opened`);
});

test('a file of threads that was cut is refused, with its large values', async (t) => {
  const path = newStorePath(t);
  const store = await openLmdbThreadStore(path);
  const put = Array.from({ length: 50 }, (_, n) => entry(n, new Uint8Array(20_000)));
  await store.commit([{ expect: [], put, remove: [] }]);
  await store.close();
  const file = join(path, 'threads.mdb');
  truncateSync(file, Math.floor(statSync(file).size * 0.9));
  await refusal(
    t,
    openLmdbThreadStore(path),
    /threads\.mdb is shorter than what was committed to it .*: restore it from a backup/,
  );
});

test('a file whose last pages were taken and given back unwritten, as an honest transaction may leave it, is opened', async (t) => {
  const file = join(newDataDir(t), 'keys.lmdb');
  const environment = new LmdbEnvironment(lmdb, file);
  const value = new Uint8Array(1_000);
  const write = (change: (n: number) => void, from: number, to: number) => {
    for (let n = from; n < to; n += 1) change(n);
  };
  const put = (n: number) => environment.put(entry(n, value).key, value);
  const remove = (n: number) => environment.remove(entry(n, value).key);
  await environment.write(() => write(put, 0, 200));
  await environment.write(() => write(remove, 50, 200));
  await environment.write(() => write(put, 200, 300));
  await environment.write(() => {
    write(put, 1_000, 2_000);
    write(remove, 1_000, 2_000);
  });
  await environment.close();
  const bytes = readFileSync(file);
  const lastPage = Number(bytes.readBigUInt64LE(liveAt(bytes) + LAST_PAGE_AT));
  t.true(bytes.length < (lastPage + 1) * pageSizeIn(bytes), 'the file is shorter than the pages that were taken');
  await t.notThrowsAsync(prepareFile(file));
  truncateSync(file, 10 * pageSizeIn(bytes));
  await refusal(t, prepareFile(file), /shorter than what was committed/);
});

for (const [what, change] of [
  ['the mark of its first page', (bytes: Buffer) => bytes.writeUInt32LE(1, 24)],
  ['the mark of its second page', (bytes: Buffer) => bytes.writeUInt32LE(1, pageSizeIn(bytes) + 24)],
  ['the version', (bytes: Buffer) => bytes.writeUInt32LE(3, 28)],
  ['the size of pages', (bytes: Buffer) => bytes.writeUInt32LE(4_097, 48)],
  ['the transaction', (bytes: Buffer) => bytes.writeUInt8(bytes.readUInt8(TRANSACTION_AT) ^ 1, TRANSACTION_AT + liveAt(bytes))],
  ['a root', (bytes: Buffer) => bytes.writeUInt32LE(1e9, 136 + liveAt(bytes))],
  ['the depth', (bytes: Buffer) => bytes.writeUInt16LE(200, 102 + liveAt(bytes))],
  ['the number of the last page', (bytes: Buffer) => bytes.writeUInt32LE(1e9, LAST_PAGE_AT + 4 + liveAt(bytes))],
  ['the flags of free pages', (bytes: Buffer) => bytes.writeUInt16LE(0x2008, 52 + liveAt(bytes))],
  ['the order of keys', (bytes: Buffer) => bytes.writeUInt16LE(4, 100 + liveAt(bytes))],
] as const) {
  test(`a file that has lost ${what} is refused, and left as it is`, async (t) => {
    const { dataDir, file } = await stored(t);
    const bytes = readFileSync(file);
    change(bytes);
    writeFileSync(file, bytes);
    await refusal(t, openLmdbStore({ dataDir }), /keys\.lmdb is (no LMDB file|damaged).*: restore it from a backup/);
    t.deepEqual(readFileSync(file), bytes);
  });
}

test('the roots of the transaction before may be anything: those of a commit that failed stand there', async (t) => {
  const { dataDir, file } = await stored(t);
  const bytes = readFileSync(file);
  bytes.fill(0xab, 96 + pageSizeIn(bytes) - liveAt(bytes), 144 + pageSizeIn(bytes) - liveAt(bytes));
  writeFileSync(file, bytes);
  const store = await openLmdbStore({ dataDir });
  t.is((await store.listKeyIds(undefined, KEYS + 1)).length, KEYS);
  await store.close();
});

/** Changes the key of one record, wherever it stands, to another one of the same length. */
async function renamed(t: ExecutionContext, change: (key: string) => string): Promise<Stored & { before: number }> {
  const { dataDir, file } = await stored(t);
  const store = await openLmdbStore({ dataDir });
  const ids = await store.listKeyIds(undefined, KEYS);
  await store.close();
  const bytes = readFileSync(file);
  // One that no branch page names, too: a search that a wrong name leads astray is refused before the list comes to it.
  const before = ids.findIndex((id, n) => n >= KEYS / 2 && bytes.indexOf(`r/${id}`) === bytes.lastIndexOf(`r/${id}`));
  const key = Buffer.from(`r/${ids[before]}`);
  for (let at = bytes.indexOf(key); at >= 0; at = bytes.indexOf(key, at)) bytes.write(change(key.toString()), at, 'latin1');
  writeFileSync(file, bytes);
  return { dataDir, file, before };
}

for (const [what, change] of [
  ['ends a list too early', (key: string) => key.replace('r/', 'z/')],
  ['lets a list go back', (key: string) => key.replace(/k_.*/, `k_${'0'.repeat(32)}`)],
] as const) {
  test(`a key in the wrong place, which ${what}, is told as damage by whoever lists`, async (t) => {
    const { dataDir, before } = await renamed(t, change);
    const store = await openLmdbStore({ dataDir });
    t.teardown(() => store.close());
    const why = /keys\.lmdb is damaged: its keys are out of order/;
    await refusal(t, store.listKeyIds(undefined, KEYS + 1), why);
    await refusal(t, (async () => store.packed?.page(undefined, KEYS + 1))(), why);
    t.is((await store.listKeyIds(undefined, before)).length, before, 'as far as they are in order they are listed');
  });
}

test('a range of a store of threads is in order, from both sides, or refused', async (t) => {
  const file = join(newDataDir(t), 'threads.mdb');
  const environment = new LmdbEnvironment(lmdb, file);
  await environment.write(() => {
    for (let n = 0; n < 9; n += 1) environment.put(`k/${n}`, Buffer.from('x'));
    environment.put('l/0', Buffer.from('x'));
  });
  for (const reverse of [false, true]) t.is(environment.range({ from: 'k/', to: 'k/~', limit: 20, reverse }).length, 9);
  await environment.close();
  const bytes = readFileSync(file);
  for (const [key, other] of [
    ['k/4', 'm/4'],
    ['k/4', 'a/4'],
  ] as const) {
    const changed = Buffer.from(bytes);
    for (let at = changed.indexOf(key); at >= 0; at = changed.indexOf(key, at)) changed.write(other, at, 'latin1');
    writeFileSync(file, changed);
    const opened = new LmdbEnvironment(lmdb, file);
    for (const reverse of [false, true]) {
      const query = { from: 'k/', to: 'k/~', limit: 20, reverse };
      t.throws(() => opened.range(query), { instanceOf: KmsError, message: /out of order/ }, `${other} ${reverse}`);
    }
    t.throws(() => opened.keys({ from: 'k/', to: 'k/~', limit: 20 }), { instanceOf: KmsError, message: /out of order/ });
    await opened.close();
  }
});

test('a key that is none is told as damage', async (t) => {
  const { dataDir } = await renamed(t, (key) => key.replace(/.$/, '~'));
  const store = await openLmdbStore({ dataDir });
  t.teardown(() => store.close());
  await refusal(t, store.listKeyIds(undefined, KEYS + 1), /damaged: its key is no key id/);
});
