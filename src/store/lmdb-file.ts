import { constants } from 'node:fs';
import { KmsError } from '../errors.js';
import { FILE_MODE } from './data-directory.js';
import { errnoOf, READ_FLAGS, readWhole, nodeFileSystem as system, writeWhole } from './file-system.js';

/** LMDB's own lock is kept beside the file under this name, and holds nothing that outlives the processes that use it. */
export const LOCK_SUFFIX = '-lock';
/** More than LMDB makes it for as many readers as lmdb-js asks for: it takes one as long as it finds it. */
const LOCK_BYTES = 16 * 1024;
/** What a new file takes, with room to spare. */
const FIRST_BYTES = 64 * 1024;

const { O_CREAT, O_NOFOLLOW, O_WRONLY } = constants;
const WRITE_FLAGS = O_WRONLY | O_CREAT | O_NOFOLLOW;

// The first meta page, in the byte order of the machine (mdb.c of lmdb-js: MDB_page_header, MDB_meta).
const HEAD_BYTES = 64;
const FLAGS_AT = 18;
const MAGIC_AT = 24;
const VERSION_AT = 28;
const PAGE_SIZE_AT = 48;
const META_FLAG = 0x08;
const MAGIC = 0xbeefc0de;
const VERSION = 2;

// A file that LMDB refuses to open ends the process in lmdb-js (it uses what it has freed): what can be refused is looked at before.
// And LMDB writes its lock file through a map, in which a full disk is a SIGBUS: its bytes are there before.

/** Of a file that is there. Throws STORE_UNAVAILABLE for what is none of LMDB's. */
export async function prepareFile(path: string): Promise<void> {
  await checkHead(path, await sizeOf(path));
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

async function checkHead(path: string, size: number): Promise<void> {
  const fd = await system.open(path, READ_FLAGS, 0);
  try {
    const head = await readWhole(system, fd, HEAD_BYTES);
    if (!isMeta(head, size)) throw new KmsError('STORE_UNAVAILABLE', `${path} is damaged, or of another format`);
  } finally {
    await system.close(fd);
  }
}

function isMeta(head: Uint8Array, size: number): boolean {
  if (head.length < HEAD_BYTES) return false;
  const isLittle = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;
  const view = new DataView(head.buffer, head.byteOffset, head.length);
  return (
    (view.getUint16(FLAGS_AT, isLittle) & META_FLAG) !== 0 &&
    view.getUint32(MAGIC_AT, isLittle) === MAGIC &&
    (view.getUint32(VERSION_AT, isLittle) & 0xffff) === VERSION &&
    size >= 2 * view.getUint32(PAGE_SIZE_AT, isLittle)
  );
}
