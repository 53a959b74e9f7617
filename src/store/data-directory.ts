import { constants, type Stats } from 'node:fs';
import { dirname, join } from 'node:path';
import { KmsError } from '../errors.js';
import { DIRECTORY_FLAGS, errnoOf, type FileSystem, READ_FLAGS } from './file-system.js';

const { O_NOFOLLOW } = constants;

export const DIRECTORY_MODE = 0o700;
export const FILE_MODE = 0o600;

/** What space is probed with on a full disk; only ever a temporary file. */
export const PROBE_NAME = 'probe';
/** The names of temporary files as this store makes them: another program's dot files are not its to remove. */
const LEFTOVER = new RegExp(`^\\.(keyring\\.json|store\\.json|${PROBE_NAME}|k_[0-9a-z]{1,64}\\.json)\\.[0-9a-f]{16}\\.tmp$`);

export interface Owner {
  uid: number;
  gid: number;
}

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

/** Whether it was not there. */
async function make(system: FileSystem, path: string): Promise<boolean> {
  try {
    await system.mkdir(path, DIRECTORY_MODE);
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return false;
    if (errnoOf(error) !== 'ENOENT' || dirname(path) === path) throw error;
    await make(system, dirname(path));
    await system.mkdir(path, DIRECTORY_MODE);
  }
  return true;
}

/**
 * Whom root has to leave the files of a directory to, so that the service's own user can still open its store after root
 * has worked on it; undefined where files are right as they are made.
 */
export function ownerToKeep(system: FileSystem, { uid, gid }: Stats): Owner | undefined {
  return system.effectiveUid() === 0 && uid !== 0 ? { uid, gid } : undefined;
}

/** By descriptor, and never through a link: the other user can put anything under a name of its own directory. */
async function give(
  system: FileSystem,
  path: string,
  flags: number,
  { uid, gid }: Owner,
  isOurs: (stats: Stats) => boolean,
): Promise<void> {
  const fd = await system.open(path, flags | O_NOFOLLOW, 0);
  try {
    if (isOurs(await system.fstat(fd))) await system.fchown(fd, uid, gid);
  } finally {
    await system.close(fd);
  }
}

/** Leaves a lock file that root made to the directory's owner: an empty file of root under this one name is nothing else. */
export async function giveLock(system: FileSystem, path: string, owner: Owner): Promise<void> {
  try {
    await give(system, path, READ_FLAGS, owner, (stats) => {
      return stats.isFile() && stats.uid === 0 && stats.nlink === 1 && stats.size === 0;
    });
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
}

/** Leaves any other file that root made to the directory's owner: under its name alone, or it may be one of root's from elsewhere. */
export async function giveFile(system: FileSystem, path: string, owner: Owner): Promise<void> {
  await give(system, path, READ_FLAGS, owner, (stats) => stats.isFile() && stats.uid === 0 && stats.nlink === 1);
}

/**
 * Makes `path` if it is not there, durably, given to `owner`, and refuses it if others could reach into it. The parent is synced either
 * way: whoever made the directory (the process that locked it, or a run that crashed) may not have done so.
 */
export async function prepareDirectory(system: FileSystem, path: string, owner?: Owner): Promise<void> {
  if ((await make(system, path)) && owner !== undefined) await give(system, path, DIRECTORY_FLAGS, owner, () => true);
  const stats = await system.stat(path);
  if (!stats.isDirectory()) throw new KmsError('STORE_UNAVAILABLE', `${path} is not a directory`);
  refuseWider(system, path, stats, DIRECTORY_MODE);
  await syncPath(system, dirname(path));
}

/**
 * Makes the names of all directories on the way to `path` durable, up to where its file system is mounted. Which of them are new
 * cannot be told: a run that made some may have been killed before it synced the directory above.
 */
export async function syncWayTo(system: FileSystem, path: string): Promise<void> {
  const { dev } = await system.stat(path);
  for (let below = path; dirname(below) !== below; below = dirname(below)) {
    const above = dirname(below);
    if ((await system.stat(above)).dev !== dev) return;
    await syncPath(system, above);
  }
}

/**
 * Removes what writes cut off by a crash left. Nobody was told of them, and the lock says that nobody writes them now: the
 * caller holds the one that covers all names of `pattern`.
 */
export async function removeLeftovers(system: FileSystem, path: string, pattern = LEFTOVER): Promise<void> {
  for (const name of await system.readdir(path)) {
    if (!pattern.test(name)) continue;
    const leftover = join(path, name);
    if (!(await system.lstat(leftover)).isDirectory()) await system.unlink(leftover);
  }
}
