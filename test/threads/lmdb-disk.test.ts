import { readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KmsError } from '../../dist/errors.js';
import { openLmdbThreadStore } from '../../dist/threads/lmdb-store.js';
import type { ThreadStore } from '../../dist/threads/thread-store.js';
import { smallDisk } from '../store/small-disk.js';
import { FILES, newStorePath, openedLmdb } from './lmdb-ground.js';
import { putting } from './store-contract.js';

const unavailable = { instanceOf: KmsError, code: 'STORE_UNAVAILABLE' };

/** Writes until the disk is full. What was told is made. */
async function filled(t: ExecutionContext, store: ThreadStore): Promise<string[]> {
  const made: string[] = [];
  const error = await t.throwsAsync(async () => {
    for (let i = 0; i < 10_000; i += 1) {
      await store.commit([putting([`k${i + 10_000}`, `${i} ${'.'.repeat(i % 2 === 0 ? 30_000 : 500)}`])]);
      made.push(`k${i + 10_000}`);
    }
  }, unavailable);
  t.regex(error?.message ?? '', /No space left|Input.output error/);
  t.true(error?.cause instanceof Error);
  t.true(made.length > 20);
  return made;
}

async function keysOf(store: ThreadStore): Promise<string[]> {
  return (await store.range({ from: 'k', to: 'l', limit: 100_000 })).map(({ key }) => key);
}

test('a full disk refuses commits, loses nothing, and when there is room again the store goes on', async (t) => {
  const disk = smallDisk(t, dirname(newStorePath(t)), '4m');
  if (disk === undefined) return;
  const path = join(disk, 'threads');
  const ballast = join(disk, 'ballast');
  writeFileSync(ballast, Buffer.alloc(512 * 1024));
  const store = await openedLmdb(t, path);
  const made = await filled(t, store);
  t.deepEqual(await keysOf(store), made);
  const refused = await Promise.allSettled(
    Array.from({ length: 5 }, (_, i) => store.commit([putting([`l${i}`, '.'.repeat(200_000)])])),
  );
  t.deepEqual(
    refused.map(({ status }) => status),
    Array(5).fill('rejected'),
  );
  t.deepEqual(await keysOf(store), made, 'after several refusals too');

  await t.throwsAsync(() => store.compact(), unavailable);
  t.deepEqual(readdirSync(path).sort(), FILES, 'a compaction for which there was no room left nothing');
  truncateSync(ballast, 256 * 1024);
  await t.throwsAsync(() => store.compact(), unavailable);
  t.deepEqual(readdirSync(path).sort(), FILES, 'nor did one for which there was some');
  t.deepEqual(await keysOf(store), made);

  rmSync(ballast);
  t.deepEqual(await store.commit([putting(['k99999', 'after'])]), [true]);
  await store.close();

  rmSync(join(path, 'threads.mdb-lock'));
  t.throws(() => writeFileSync(ballast, Buffer.alloc(4 * 1024 * 1024)), { code: 'ENOSPC' });
  await t.throwsAsync(() => openLmdbThreadStore(path), unavailable, 'not even LMDB has room for its lock');
  rmSync(ballast);
  const again = await openedLmdb(t, path);
  t.deepEqual(await keysOf(again), [...made, 'k99999']);
});

test('on a full disk no store is made, and none is when there is room again', async (t) => {
  const disk = smallDisk(t, dirname(newStorePath(t)), '1m');
  if (disk === undefined) return;
  const path = join(disk, 'threads');
  const ballast = join(disk, 'ballast');
  for (const room of [0, 8, 20, 40]) {
    writeFileSync(ballast, Buffer.alloc(1024 * 1024 - (room + 4) * 1024));
    await t.throwsAsync(() => openLmdbThreadStore(path), unavailable, `${room} KiB`);
    t.deepEqual(
      readdirSync(path).filter((name) => name !== 'lock'),
      [],
      `${room} KiB`,
    );
    rmSync(ballast);
  }
  const store = await openedLmdb(t, path);
  t.deepEqual(await store.commit([putting(['a', '1'])]), [true]);
});
