import * as fs from 'node:fs';
import { constants } from 'node:os';
import { getSystemErrorName } from 'node:util';
import { binding } from '../native.js';

/** How far an append came. */
export interface Appended {
  /** Bytes that the file has taken. */
  written: number;
  /** What ended it: of `write` if bytes are left, of `fsync` if none is. */
  error?: NodeJS.ErrnoException;
  /** Whether the path still names the file. */
  isInPlace: boolean;
}

/**
 * What the files store needs of an operating system, and nothing more: one call, but for `append`, is one system call, so that a test
 * can fail it, cut it short or note its place in the order. Promises stand on the callback API: a FileHandle costs more.
 */
export interface FileSystem {
  /** Whose files these must be; 0 may use anybody's. */
  effectiveUid(): number;
  open(path: string, flags: number, mode: number): Promise<number>;
  /** Writes from `offset` on and answers how much went: fewer bytes than there are is not an error. */
  write(fd: number, bytes: Uint8Array, offset: number): Promise<number>;
  read(fd: number, into: Uint8Array, offset: number): Promise<number>;
  /** Reads from `position` of the file on, to `offset` of `into`. */
  pread(fd: number, into: Uint8Array, offset: number, position: number): Promise<number>;
  fsync(fd: number): Promise<void>;
  /**
   * `write` of all there is, `fsync`, and whether `path` is still the file, asked last: one job of the thread pool, because each
   * of them singly waits for the event loop. Rejects only if it is not begun; `bytes` may not change before it is over.
   */
  append(fd: number, bytes: Uint8Array, path: string): Promise<Appended>;
  fstat(fd: number): Promise<fs.Stats>;
  fchown(fd: number, uid: number, gid: number): Promise<void>;
  close(fd: number): Promise<void>;
  /** Refuses to overwrite, which a rename does not. */
  link(from: string, to: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  unlink(path: string): Promise<void>;
  rmdir(path: string): Promise<void>;
  ftruncate(fd: number, length: number): Promise<void>;
  mkdir(path: string, mode: number): Promise<void>;
  readdir(path: string): Promise<string[]>;
  stat(path: string): Promise<fs.Stats>;
  lstat(path: string): Promise<fs.Stats>;

  openSync(path: string, flags: number, mode: number): number;
  writeSync(fd: number, bytes: Uint8Array, offset: number): number;
  readSync(fd: number, into: Uint8Array, offset: number): number;
  fsyncSync(fd: number): void;
  fstatSync(fd: number): fs.Stats;
  fchownSync(fd: number, uid: number, gid: number): void;
  closeSync(fd: number): void;
  renameSync(from: string, to: string): void;
  unlinkSync(path: string): void;
}

const { O_APPEND, O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY } = fs.constants;
/** A new file and nothing else: neither an existing one nor what a link points to. */
export const CREATE_FLAGS = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
/** O_NONBLOCK: a pipe that somebody put in a record's place must not hang the service at open. */
export const READ_FLAGS = O_RDONLY | O_NOFOLLOW | O_NONBLOCK;
/** A log: each write goes to its end, wherever that is by then. */
export const APPEND_FLAGS = O_RDWR | O_APPEND | O_NOFOLLOW | O_NONBLOCK;
export const NEW_LOG_FLAGS = APPEND_FLAGS | O_CREAT | O_EXCL;
export const DIRECTORY_FLAGS = O_RDONLY | O_DIRECTORY;

type Callback<T> = (error: NodeJS.ErrnoException | null, value: T) => void;

function called<T>(start: (done: Callback<T>) => void): Promise<T> {
  return new Promise((resolve, reject) => start((error, value) => (error ? reject(error) : resolve(value))));
}

export const nodeFileSystem: FileSystem = {
  effectiveUid: () => process.geteuid?.() ?? 0,
  open: (path, flags, mode) => called((done) => fs.open(path, flags, mode, done)),
  write: (fd, bytes, offset) => called((done) => fs.write(fd, bytes, offset, bytes.length - offset, null, done)),
  read: (fd, into, offset) => called((done) => fs.read(fd, into, offset, into.length - offset, null, done)),
  pread: (fd, into, offset, position) => called((done) => fs.read(fd, into, offset, into.length - offset, position, done)),
  fsync: (fd) => called<void>((done) => fs.fsync(fd, done as fs.NoParamCallback)),
  append: async (fd, bytes, path) => {
    const { errno, ...rest } = await binding.appendToLog(fd, bytes, path);
    if (errno === 0) return rest;
    const syscall = rest.written < bytes.length ? 'write' : 'fsync';
    const code = getSystemErrorName(-errno);
    return { ...rest, error: Object.assign(new Error(`${code}, ${syscall}`), { code, errno: -errno, syscall }) };
  },
  fstat: (fd) => called((done) => fs.fstat(fd, done)),
  fchown: (fd, uid, gid) => called<void>((done) => fs.fchown(fd, uid, gid, done as fs.NoParamCallback)),
  close: (fd) => called<void>((done) => fs.close(fd, done as fs.NoParamCallback)),
  link: (from, to) => called<void>((done) => fs.link(from, to, done as fs.NoParamCallback)),
  rename: (from, to) => called<void>((done) => fs.rename(from, to, done as fs.NoParamCallback)),
  rmdir: (path) => called<void>((done) => fs.rmdir(path, done as fs.NoParamCallback)),
  ftruncate: (fd, length) => called<void>((done) => fs.ftruncate(fd, length, done as fs.NoParamCallback)),
  unlink: (path) => called<void>((done) => fs.unlink(path, done as fs.NoParamCallback)),
  mkdir: (path, mode) => called<void>((done) => fs.mkdir(path, mode, done as fs.NoParamCallback)),
  readdir: (path) => called((done) => fs.readdir(path, done)),
  stat: (path) => called((done) => fs.stat(path, done)),
  lstat: (path) => called((done) => fs.lstat(path, done)),

  openSync: (path, flags, mode) => fs.openSync(path, flags, mode),
  writeSync: (fd, bytes, offset) => fs.writeSync(fd, bytes, offset, bytes.length - offset, null),
  readSync: (fd, into, offset) => fs.readSync(fd, into, offset, into.length - offset, null),
  fsyncSync: (fd) => fs.fsyncSync(fd),
  fstatSync: (fd) => fs.fstatSync(fd),
  fchownSync: (fd, uid, gid) => fs.fchownSync(fd, uid, gid),
  closeSync: (fd) => fs.closeSync(fd),
  renameSync: (from, to) => fs.renameSync(from, to),
  unlinkSync: (path) => fs.unlinkSync(path),
};

/** The `errno` name of a failed call, '' for an error that is none. */
export function errnoOf(error: unknown): string {
  if (!(error instanceof Error && 'code' in error && typeof error.code === 'string')) return '';
  // libuv has no name for it, and what is called unknown would be taken for worse than a full disk.
  return 'errno' in error && error.errno === -constants.errno.EDQUOT ? 'EDQUOT' : error.code;
}

// A full disk shows first as a short write that succeeds, and only the next call fails (measured): hence the loops.

export async function writeWhole(system: FileSystem, fd: number, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; ) at += await system.write(fd, bytes, at);
}

export function writeWholeSync(system: FileSystem, fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += system.writeSync(fd, bytes, at);
}

/** Up to `size` bytes from where `fd` stands: fewer only at the end of the file. */
export async function readWhole(system: FileSystem, fd: number, size: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(size);
  let at = 0;
  for (let got = -1; at < size && got !== 0; at += got) got = await system.read(fd, bytes, at);
  return bytes.subarray(0, at);
}

/** The bytes from `position` on: fewer than `size` only at the end of the file. */
export async function readWholeAt(system: FileSystem, fd: number, size: number, position: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(size);
  let at = 0;
  for (let got = -1; at < size && got !== 0; at += got) got = await system.pread(fd, bytes, at, position + at);
  return bytes.subarray(0, at);
}

export function readWholeSync(system: FileSystem, fd: number, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  let at = 0;
  for (let got = -1; at < size && got !== 0; at += got) got = system.readSync(fd, bytes, at);
  return bytes.subarray(0, at);
}
