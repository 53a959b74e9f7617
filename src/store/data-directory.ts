import type { Stats } from 'node:fs';
import { dirname, join } from 'node:path';
import { KmsError } from '../errors.js';
import { DIRECTORY_FLAGS, errnoOf, type FileSystem } from './file-system.js';

export const DIRECTORY_MODE = 0o700;
export const FILE_MODE = 0o600;

const LEFTOVER = /^\..*\.tmp$/;

/** `path` so that the command it stands in can be pasted into a shell. */
function quoted(path: string): string {
  return /^[A-Za-z0-9._/@:+-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}

/** Throws unless `path` is ours and no wider than `mode`. It is never mended silently: who could read it may have read it. */
export function refuseWider(system: FileSystem, path: string, stats: Stats, mode: number): void {
  const uid = system.effectiveUid();
  if (uid !== 0 && stats.uid !== uid) {
    throw new KmsError('PERMISSION_DENIED', `${path} belongs to uid ${stats.uid}; run: chown ${uid} ${quoted(path)}`);
  }
  if ((stats.mode & 0o077) !== 0) {
    const found = (stats.mode & 0o7777).toString(8).padStart(4, '0');
    throw new KmsError('PERMISSION_DENIED', `${path} has mode ${found}; run: chmod ${mode.toString(8)} ${quoted(path)}`);
  }
}

async function syncPath(system: FileSystem, path: string): Promise<void> {
  let fd: number;
  try {
    fd = await system.open(path, DIRECTORY_FLAGS, 0);
  } catch (error) {
    // A parent that we may pass but not read was made by somebody else, with all that we need in it.
    if (errnoOf(error) === 'EACCES') return;
    throw error;
  }
  try {
    await system.fsync(fd);
  } finally {
    await system.close(fd);
  }
}

async function make(system: FileSystem, path: string): Promise<void> {
  try {
    await system.mkdir(path, DIRECTORY_MODE);
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return;
    if (errnoOf(error) !== 'ENOENT' || dirname(path) === path) throw error;
    await make(system, dirname(path));
    await system.mkdir(path, DIRECTORY_MODE);
    await syncPath(system, dirname(path));
  }
}

/**
 * Makes `path` if it is not there, durably, and refuses it if others could reach into it. The parent is synced either
 * way: whoever made the directory (the process that locked it, or a run that crashed) may not have done so.
 */
export async function prepareDirectory(system: FileSystem, path: string): Promise<void> {
  await make(system, path);
  const stats = await system.stat(path);
  if (!stats.isDirectory()) throw new KmsError('STORE_UNAVAILABLE', `${path} is not a directory`);
  refuseWider(system, path, stats, DIRECTORY_MODE);
  await syncPath(system, dirname(path));
}

/** Removes what writes cut off by a crash left. Nobody was told of them, and the lock says that nobody writes them now. */
export async function removeLeftovers(system: FileSystem, path: string): Promise<void> {
  for (const name of await system.readdir(path)) if (LEFTOVER.test(name)) await system.unlink(join(path, name));
}
