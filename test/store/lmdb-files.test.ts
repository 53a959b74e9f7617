import {
  chmodSync,
  chownSync,
  lstatSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import * as lmdb from 'lmdb';
import { KmsError } from '../../dist/errors.js';
import { DamagedDocument } from '../../dist/store/key-store.js';
import { openLmdbStore } from '../../dist/store/lmdb.js';
import { packed } from '../../dist/store/packed.js';
import { skipped } from '../secrets/scanner.js';
import { newDataDir } from './data-dir.js';
import { newKeyring, newRecord, next } from './documents.js';
import { openedLmdb } from './lmdb-ground.js';

const FILES = ['keys.lmdb', 'keys.lmdb-lock'] as const;
const mode = (path: string) => (lstatSync(path).mode & 0o7777).toString(8);

/** A data directory with a store of one key. */
async function stored(t: ExecutionContext): Promise<string> {
  const dataDir = newDataDir(t);
  const store = await openLmdbStore({ dataDir });
  await store.createRecord(newRecord({ keyId: 'k_1' }));
  await store.close();
  return dataDir;
}

/** Writes an entry behind the store's back. */
async function put(dataDir: string, key: string, value: Uint8Array): Promise<void> {
  const keyEncoder = {
    writeKey: (text: string, target: Buffer, start: number) => start + target.write(text, start, 'latin1'),
    readKey: (source: Buffer, start: number, end: number) => source.toString('latin1', start, end),
  };
  const db = lmdb.open<Uint8Array, string>(join(dataDir, 'keys.lmdb'), { noSubdir: true, encoding: 'binary', keyEncoder });
  await db.put(key, value);
  await db.close();
}

async function refusal(t: ExecutionContext, dataDir: string): Promise<KmsError> {
  return (await t.throwsAsync(openLmdbStore({ dataDir }), { instanceOf: KmsError })) as KmsError;
}

test('an LMDB store is two files of 0600 beside the keyring, in directories of 0700', async (t) => {
  const dataDir = join(newDataDir(t), 'not', 'there');
  const store = await openedLmdb(t, dataDir);
  await store.writeKeyring(newKeyring(1));
  await store.createRecord(newRecord());
  t.deepEqual(readdirSync(dataDir).sort(), ['keyring.json', ...FILES]);
  t.is(mode(dataDir), '700');
  for (const file of readdirSync(dataDir)) t.is(mode(join(dataDir, file)), '600', file);
});

for (const file of FILES) {
  test(`${file} is refused where others can read it, with the command that mends it`, async (t) => {
    const dataDir = await stored(t);
    chmodSync(join(dataDir, file), 0o640);
    const { code, message } = await refusal(t, dataDir);
    t.is(code, 'PERMISSION_DENIED');
    t.true(message.includes(`chmod 600 ${join(dataDir, file)}`), message);
    chmodSync(join(dataDir, file), 0o600);
    t.is((await (await openedLmdb(t, dataDir)).readRecord('k_1'))?.keyId, 'k_1');
  });

  test(`a link in place of ${file} is refused`, async (t) => {
    const dataDir = await stored(t);
    const elsewhere = join(newDataDir(t), 'elsewhere');
    renameSync(join(dataDir, file), elsewhere);
    symlinkSync(elsewhere, join(dataDir, file));
    t.is((await refusal(t, dataDir)).code, 'STORE_UNAVAILABLE');
  });
}

test('a file that is no LMDB file of keys is refused and left as it is', async (t) => {
  const cut = await stored(t);
  truncateSync(join(cut, 'keys.lmdb'), 5_000);
  const foreign = await stored(t);
  writeFileSync(join(foreign, 'keys.lmdb'), Buffer.alloc(100_000, 'x'));
  for (const dataDir of [cut, foreign]) {
    const before = readFileSync(join(dataDir, 'keys.lmdb'));
    const { code, message } = await refusal(t, dataDir);
    t.is(code, 'STORE_UNAVAILABLE');
    t.regex(message, /keys\.lmdb is (no LMDB file|damaged|shorter)/);
    t.deepEqual(readFileSync(join(dataDir, 'keys.lmdb')), before);
  }
});

test('a store of a newer format is refused by name', async (t) => {
  const dataDir = await stored(t);
  await put(dataDir, 'format', Buffer.from('2'));
  const { code, message } = await refusal(t, dataDir);
  t.is(code, 'UNSUPPORTED');
  t.regex(message, /keys\.lmdb has format 2, this version knows 1/);
});

test('a record that is damaged, or that stands under the id of another one, is told as such, and the others serve', async (t) => {
  const dataDir = await stored(t);
  const bytes = packed(newRecord({ keyId: 'k_2' }));
  await put(dataDir, 'r/k_2', bytes.subarray(1));
  await put(dataDir, 'r/k_3', bytes);
  const store = await openedLmdb(t, dataDir);
  for (const [keyId, reason] of [
    ['k_2', /./],
    ['k_3', /swapped: the entry holds the record of k_2/],
  ] as const) {
    const error = await t.throwsAsync(store.readRecord(keyId), { instanceOf: DamagedDocument }, keyId);
    t.regex(error?.message ?? '', reason);
    t.throws(() => store.readRecordSync(keyId), { instanceOf: DamagedDocument });
    await t.throwsAsync(store.replaceRecord(next(newRecord({ keyId }))), { instanceOf: DamagedDocument });
  }
  t.deepEqual(await store.listKeyIds(undefined, 10), ['k_1', 'k_2', 'k_3']);
  t.is((await store.readRecord('k_1'))?.keyId, 'k_1');
  await store.backups.setAside('r2-0123456789abcdef', 'k_2');
  t.deepEqual(await store.listKeyIds(undefined, 10), ['k_1', 'k_3'], 'it can be set aside as it is');
});

test('what a killed process was making is removed at the next start, and nothing else is', async (t) => {
  const dataDir = await stored(t);
  const leftover = `.keys.lmdb.${'0'.repeat(16)}.tmp`;
  for (const name of [leftover, `${leftover}-lock`, '.other.tmp']) writeFileSync(join(dataDir, name), 'x', { mode: 0o600 });
  const store = await openedLmdb(t, dataDir);
  t.deepEqual(readdirSync(dataDir).sort(), ['.other.tmp', ...FILES]);
  t.is((await store.readRecord('k_1'))?.keyId, 'k_1');
});

test('what root makes in the directory of another user belongs to that user', async (t) => {
  if (skipped(t, process.geteuid?.() === 0 ? undefined : 'needs root to work on the store of another user')) return;
  const dataDir = newDataDir(t);
  chownSync(dataDir, 12_345, 12_346);
  const store = await openedLmdb(t, dataDir);
  await store.writeKeyring(newKeyring(1));
  await store.createRecord(newRecord());
  await store.close();
  for (const file of readdirSync(dataDir)) {
    const { uid, gid } = lstatSync(join(dataDir, file));
    t.deepEqual([uid, gid], [12_345, 12_346], file);
  }
});

test('a large rotation is dropped while others write', async (t) => {
  const store = await openedLmdb(t, newDataDir(t));
  const rotationId = 'r2-0123456789abcdef';
  const records = Array.from({ length: 2_500 }, () => newRecord());
  await Promise.all(records.map((record) => store.packed?.createMany([{ keyId: record.keyId, bytes: packed(record) }])));
  const moves = records.map((record) => ({ keyId: record.keyId, before: packed(record), after: packed(next(record)) }));
  await store.packed?.moveMany(rotationId, moves);
  let isDropped = false;
  const drop = store.backups.drop(rotationId).then(() => {
    isDropped = true;
  });
  await store.createRecord(newRecord());
  t.false(isDropped);
  await drop;
  t.deepEqual(await store.backups.list(), []);
  t.is((await store.listKeyIds(undefined, 5_000)).length, 2_501);
});
