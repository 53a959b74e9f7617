import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { openLmdbThreadStore } from '../../dist/threads/lmdb-store.js';
import type { ThreadStore } from '../../dist/threads/thread-store.js';

/** A path for a store, which is not there yet, and goes with the test. */
export function newStorePath(t: ExecutionContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'kms-threads-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, 'threads');
}

export async function openedLmdb(t: ExecutionContext, path: string): Promise<ThreadStore> {
  const store = await openLmdbThreadStore(path);
  t.teardown(() => store.close());
  return store;
}

/** Every byte that a store has on its disk, file by file. */
export function bytesOf(path: string): Buffer[] {
  return readdirSync(path).map((name) => readFileSync(join(path, name)));
}

/** What lies in a directory of which nothing is left over. */
export const FILES = ['lock', 'threads.mdb', 'threads.mdb-lock'];
