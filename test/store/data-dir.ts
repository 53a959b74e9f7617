import { chmodSync, cpSync, existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { type FileSystem, nodeFileSystem } from '../../dist/store/file-system.js';
import { openFileStore } from '../../dist/store/files.js';
import type { KeyStore } from '../../dist/store/key-store.js';

/** An empty data directory (0700) that goes with the test. */
export function newDataDir(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'kms-store-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

export async function openedStore(
  t: ExecutionContext,
  dataDir: string,
  fileSystem: FileSystem = nodeFileSystem,
): Promise<KeyStore> {
  const store = await openFileStore({ dataDir, fileSystem });
  t.teardown(() => store.close().catch(() => {}));
  return store;
}

/** A copy with the modes of the original: since Node 22 the directories of a copy are open to everybody. */
export function copyDirectory(from: string, to: string): void {
  cpSync(from, to, { recursive: true });
  for (const path of ['.', ...readdirSync(from, { recursive: true, encoding: 'utf8' })]) {
    chmodSync(join(to, path), statSync(join(from, path)).mode & 0o777);
  }
}

/** Temporary files that lie in the data directory. */
export function temporaries(dataDir: string): string[] {
  const records = join(dataDir, 'kms-deks');
  const all = [...readdirSync(dataDir), ...(existsSync(records) ? readdirSync(records) : [])];
  return all.filter((name) => name.startsWith('.'));
}
