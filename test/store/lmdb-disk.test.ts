import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { KmsError } from '../../dist/errors.js';
import type { KeyMeta, KeyStore } from '../../dist/store/key-store.js';
import { openLmdbStore } from '../../dist/store/lmdb.js';
import { newDataDir } from './data-dir.js';
import { newKeyring, newRecord, next, plain } from './documents.js';
import { openedLmdb } from './lmdb-ground.js';
import { smallDisk } from './small-disk.js';

const unavailable = { instanceOf: KmsError, code: 'STORE_UNAVAILABLE' };
const FULL = /^no space left .* writes resume once there is$/;

/** Makes keys until the disk is full. What was told is made. */
async function filled(t: ExecutionContext, store: KeyStore): Promise<KeyMeta[]> {
  const made: KeyMeta[] = [];
  await t.throwsAsync(async () => {
    for (;;) {
      const some = Array.from({ length: 32 }, () => newRecord());
      await Promise.all(some.map((record) => store.createRecord(record)));
      made.push(...some);
    }
  }, unavailable);
  t.true(made.length > 100);
  t.regex(store.fault() ?? '', FULL);
  return made;
}

test('a full disk refuses writes, loses nothing, and when there is room again the store goes on', async (t) => {
  const disk = smallDisk(t, newDataDir(t), '2m');
  if (disk === undefined) return;
  const dataDir = join(disk, 'data');
  const ballast = join(disk, 'ballast');
  writeFileSync(ballast, Buffer.alloc(256 * 1024));
  const store = await openedLmdb(t, dataDir);
  await store.writeKeyring(newKeyring(1));
  const made = await filled(t, store);
  for (const record of made) t.deepEqual(plain(store.readRecordSync(record.keyId)), record);
  await t.throwsAsync(store.writeKeyring(newKeyring(2)), unavailable);
  const refused = await Promise.allSettled(Array.from({ length: 100 }, () => store.createRecord(newRecord())));
  t.true(refused.some(({ status }) => status === 'rejected'));
  t.regex(store.fault() ?? '', FULL);
  rmSync(ballast);
  const later = newRecord();
  await store.createRecord(later);
  t.is(store.fault(), null);
  await store.writeKeyring(newKeyring(2));
  await store.close();
  t.deepEqual(
    readdirSync(dataDir).filter((name) => name.startsWith('.')),
    [],
  );
  const again = await openedLmdb(t, dataDir);
  for (const record of [...made, later]) t.deepEqual(plain(await again.readRecord(record.keyId)), record);
  t.is((await again.readKeyring())?.generation, 2);
});

test('a blocking write that a full disk refused is taken once there is room, with no other write between', async (t) => {
  const disk = smallDisk(t, newDataDir(t), '2m');
  if (disk === undefined) return;
  const dataDir = join(disk, 'data');
  const ballast = join(disk, 'ballast');
  const store = await openedLmdb(t, dataDir);
  let [record, other] = [newRecord({ keyId: 'k_1' }), newRecord({ keyId: 'k_2' })];
  for (const each of [record, other]) await store.createRecord(each);
  t.throws(() => writeFileSync(ballast, Buffer.alloc(2 * 1024 * 1024)), { code: 'ENOSPC' });
  // Until the pages that LMDB has free in its file are used up.
  const error = t.throws(() => {
    for (let n = 0; n < 1_000; n += 1) {
      store.replaceRecordSync(next(record));
      record = next(record);
      store.replaceRecordSync(next(other));
      other = next(other);
    }
  }, undefined);
  if (error === undefined) return;
  t.like(error, { code: 'STORE_UNAVAILABLE' });
  await delay(50);
  rmSync(ballast);
  await delay(50);
  t.notThrows(() => store.replaceRecordSync(next(record)));
  t.is(store.fault(), null);
});

test('on a full disk no store is made, and one is when there is room', async (t) => {
  const disk = smallDisk(t, newDataDir(t), '1m');
  if (disk === undefined) return;
  const dataDir = join(disk, 'data');
  const ballast = join(disk, 'ballast');
  for (const room of [0, 8, 20, 40]) {
    writeFileSync(ballast, Buffer.alloc(1024 * 1024 - (room + 4) * 1024));
    await t.throwsAsync(openLmdbStore({ dataDir }), unavailable, `${room} KiB`);
    t.deepEqual(readdirSync(dataDir), [], `${room} KiB`);
    rmSync(ballast);
  }
  const store = await openedLmdb(t, dataDir);
  await t.notThrowsAsync(store.createRecord(newRecord()));
});
