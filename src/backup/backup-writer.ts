import { createHash, randomBytes } from 'node:crypto';
import { dirname, join } from 'node:path';
import { KmsError } from '../errors.js';
import { binding } from '../native.js';
import { FILE_MODE } from '../store/data-directory.js';
import { CREATE_FLAGS, errnoOf, type FileSystem, writeWhole } from '../store/file-system.js';
import { ENTRIES, ENTRY_HEADER_BYTES, type EntryName, MAGIC, VERSION_BYTES, type Version } from './format.js';
import { syncDirectory } from './target.js';

/** Entries are gathered until one write of this size is worth it. */
const WRITE_BYTES = 256 * 1024;
const LEFTOVER = /^\.progressdb-kms-backup\.[0-9a-f]{16}\.tmp$/;

function failure(path: string, error: unknown): KmsError {
  if (error instanceof KmsError) return error;
  const errno = errnoOf(error) || 'failure';
  const { syscall = 'write' } = error as NodeJS.ErrnoException;
  const isForbidden = errno === 'EACCES' || errno === 'EPERM';
  // Only here a file is given its name in a way that cannot replace another one.
  const because = errno === 'EPERM' && syscall === 'link' ? ': this file system has no hard links' : '';
  return new KmsError(isForbidden ? 'PERMISSION_DENIED' : 'STORE_UNAVAILABLE', `${path}: ${errno} at ${syscall}${because}`, {
    cause: error,
  });
}

/**
 * Writes one backup. Crash story: everything goes to a temporary file of the same directory, which is synced and then given the
 * backup's name by a link, which refuses to replace a file; so the name is on a whole backup or on nothing. What a crash
 * leaves of the temporary file is removed by the next backup into this directory: it is locked while somebody writes it.
 */
export class BackupWriter {
  readonly #system: FileSystem;
  readonly #path: string;
  readonly #temporary: string;
  readonly #fd: number;
  readonly #lock: number;
  readonly #hash = createHash('sha256');
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;
  #written = 0;
  #ended = false;

  private constructor(system: FileSystem, path: string, version: Version, temporary: string, fd: number, lock: number) {
    this.#system = system;
    this.#path = path;
    this.#temporary = temporary;
    this.#fd = fd;
    this.#lock = lock;
    this.#gather(MAGIC);
    this.#gather(Buffer.of(VERSION_BYTES[version]));
  }

  /** CONFLICT if there is such a file. */
  static async create(system: FileSystem, path: string, version: Version): Promise<BackupWriter> {
    const directory = dirname(path);
    try {
      await removeLeftovers(system, directory);
      if (await isThere(system, path)) throw new KmsError('CONFLICT', `${path} is there already`);
      const temporary = join(directory, `.progressdb-kms-backup.${randomBytes(8).toString('hex')}.tmp`);
      const fd = await system.open(temporary, CREATE_FLAGS, FILE_MODE);
      return new BackupWriter(system, path, version, temporary, fd, await locked(system, temporary, fd));
    } catch (error) {
      throw failure(path, error);
    }
  }

  get bytes(): number {
    return this.#written + this.#pendingBytes;
  }

  async add(name: EntryName, bytes: Uint8Array): Promise<void> {
    const { type, maxBytes } = ENTRIES[name];
    if (bytes.length > maxBytes) throw new KmsError('TOO_LARGE', `a ${name} of ${bytes.length} bytes, the limit is ${maxBytes}`);
    const header = Buffer.alloc(ENTRY_HEADER_BYTES);
    header[0] = type;
    header.writeUInt32BE(bytes.length, 1);
    this.#gather(header);
    this.#gather(bytes);
    if (this.#pendingBytes >= WRITE_BYTES) await this.#flush();
  }

  /** SHA-256 of all that was added; nothing but the seal may come after. */
  digest(): Uint8Array {
    return this.#hash.copy().digest();
  }

  /** Makes it durable and gives it its name. */
  async publish(): Promise<void> {
    try {
      await this.#flush();
      await this.#system.fsync(this.#fd);
      await this.#system.link(this.#temporary, this.#path);
      await this.#end();
      await syncDirectory(this.#system, dirname(this.#path));
    } catch (error) {
      if (errnoOf(error) === 'EEXIST') throw new KmsError('CONFLICT', `${this.#path} is there already`);
      throw failure(this.#path, error);
    }
  }

  /** Takes back what there is; after `publish` it does nothing. */
  async discard(): Promise<void> {
    await this.#end().catch(() => undefined);
  }

  async #end(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    try {
      await this.#system.unlink(this.#temporary);
    } finally {
      binding.unlock(this.#lock);
      await this.#system.close(this.#fd);
    }
  }

  #gather(bytes: Uint8Array): void {
    this.#hash.update(bytes);
    this.#pending.push(bytes);
    this.#pendingBytes += bytes.length;
  }

  async #flush(): Promise<void> {
    const bytes = Buffer.concat(this.#pending);
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#written += bytes.length;
    try {
      await writeWhole(this.#system, this.#fd, bytes);
    } catch (error) {
      throw failure(this.#path, error);
    }
  }
}

/** Locks the file that was just made; another backup may have taken it for a leftover before it was. */
async function locked(system: FileSystem, path: string, fd: number): Promise<number> {
  let lock: number | undefined;
  try {
    lock = binding.lockFile(path);
    const [named, ours] = [await system.lstat(path), await system.fstat(fd)];
    if (named.ino === ours.ino && named.dev === ours.dev) return lock;
    await system.unlink(path);
    throw new KmsError('CONFLICT', 'another backup is written here; try again');
  } catch (error) {
    if (lock !== undefined) binding.unlock(lock);
    await system.close(fd);
    throw error;
  }
}

async function isThere(system: FileSystem, path: string): Promise<boolean> {
  try {
    await system.lstat(path);
    return true;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw error;
  }
}

async function removeLeftovers(system: FileSystem, directory: string): Promise<void> {
  for (const name of await system.readdir(directory)) {
    if (!LEFTOVER.test(name)) continue;
    const path = join(directory, name);
    try {
      const lock = binding.lockFile(path);
      await system.unlink(path).finally(() => binding.unlock(lock));
    } catch {
      // Somebody writes it, or another user left it: not ours to remove.
    }
  }
}
