import { constants } from 'node:fs';
import { KmsError } from '../errors.js';
import { FILE_MODE } from './data-directory.js';
import { errnoOf, READ_FLAGS, readWholeAt, nodeFileSystem as system, writeWhole } from './file-system.js';
import { liveMetaOf, META_BYTES, pageSizeOf } from './lmdb-meta.js';
import { extentOf } from './lmdb-reach.js';

/** LMDB's own lock is kept beside the file under this name, and holds nothing that outlives the processes that use it. */
export const LOCK_SUFFIX = '-lock';
/** More than LMDB makes it for as many readers as lmdb-js asks for: it takes one as long as it finds it. */
const LOCK_BYTES = 16 * 1024;
/** What a new file takes, with room to spare. */
const FIRST_BYTES = 64 * 1024;

const { O_CREAT, O_NOFOLLOW, O_WRONLY } = constants;
const WRITE_FLAGS = O_WRONLY | O_CREAT | O_NOFOLLOW;

// A file that LMDB refuses to open ends the process in lmdb-js (it uses what it has freed): what can be refused is looked at before.
// It reads through a map, in which a page beyond the end of the file is a SIGBUS: all that it may read is there before.
// And LMDB writes its lock file through a map, in which a full disk is a SIGBUS: its bytes are there before.

/** Of a file that is there. Throws STORE_UNAVAILABLE for what is none of LMDB's, or has lost its end. */
export async function prepareFile(path: string): Promise<void> {
  const size = await sizeOf(path);
  const fd = await system.open(path, READ_FLAGS, 0);
  try {
    const fault = await faultOf(fd, size);
    if (fault !== undefined) throw new KmsError('STORE_UNAVAILABLE', `${path} ${fault}: restore it from a backup`);
  } finally {
    await system.close(fd);
  }
  await lengthen(path + LOCK_SUFFIX);
}

/** Of a file that is not there yet; `probe` is another one, for a moment. */
export async function prepareNewFile(path: string, probe: string): Promise<void> {
  await writeProbe(probe);
  await system.unlink(probe);
  await lengthen(path + LOCK_SUFFIX);
}

/** As much as a new file takes. */
export function writeProbe(path: string): Promise<void> {
  return write(path, FIRST_BYTES);
}

/** 0 for one that is not there. */
export async function sizeOf(path: string): Promise<number> {
  try {
    const stats = await system.lstat(path);
    if (!stats.isFile()) throw new KmsError('STORE_UNAVAILABLE', `${path} is not a regular file`);
    return stats.size;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return 0;
    throw error;
  }
}

async function lengthen(path: string): Promise<void> {
  if ((await sizeOf(path)) < LOCK_BYTES) await write(path, LOCK_BYTES);
}

/** Zeros, which are on the disk when it resolves: a file system that counts blocks late has counted them. */
async function write(path: string, size: number): Promise<void> {
  const fd = await system.open(path, WRITE_FLAGS, FILE_MODE);
  try {
    await writeWhole(system, fd, new Uint8Array(size));
    await system.fsync(fd);
  } finally {
    await system.close(fd);
  }
}

async function faultOf(fd: number, size: number): Promise<string | undefined> {
  const first = await readWholeAt(system, fd, META_BYTES, 0);
  const pageSize = pageSizeOf(first);
  if (pageSize === undefined) return 'is no LMDB file, or one of another format';
  const shorter = `is shorter than what was committed to it (${size} bytes)`;
  if (size < 2 * pageSize) return shorter;
  const meta = liveMetaOf([first, await readWholeAt(system, fd, META_BYTES, pageSize)]);
  if (meta === undefined) return 'is damaged: no commit leaves its first pages so';
  const pages = Math.floor(size / pageSize);
  if (pages > meta.lastPage) return undefined;
  const extent = await extentOf(fd, meta, pages);
  if (extent === 'short') return shorter;
  return extent === 'damaged' ? 'is damaged, and shorter than it may once have been' : undefined;
}
