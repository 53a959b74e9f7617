import { randomBytes } from 'node:crypto';
import type { Stats } from 'node:fs';
import { join } from 'node:path';
import { KmsError } from '../errors.js';
import { FILE_MODE, type Owner, ownerToKeep } from './data-directory.js';
import { DirectorySync } from './directory-sync.js';
import {
  CREATE_FLAGS,
  DIRECTORY_FLAGS,
  errnoOf,
  type FileSystem,
  READ_FLAGS,
  readWhole,
  readWholeSync,
  writeWhole,
  writeWholeSync,
} from './file-system.js';
import { DamagedDocument } from './key-store.js';
import type { Turnstile } from './turnstile.js';
import type { WriteLatch } from './write-latch.js';

function refuseIrregular(stats: Stats, limit: number): void {
  if (!stats.isFile()) throw new DamagedDocument('not a regular file');
  if (stats.size > limit) throw new DamagedDocument(`${stats.size} bytes, the limit is ${limit}`);
}

/** What a failed read means: undefined for "there is none", else an error to throw. A read never latches the store. */
function readFailure(error: unknown): Error | undefined {
  if (error instanceof KmsError || error instanceof DamagedDocument) return error;
  const errno = errnoOf(error);
  if (errno === 'ENOENT') return undefined;
  // O_NOFOLLOW on a link: ELOOP by POSIX, EMLINK on FreeBSD.
  if (errno === 'ELOOP' || errno === 'EMLINK') return new DamagedDocument('a symbolic link stands in its place');
  if (errno === 'ENXIO') return new DamagedDocument('not a regular file');
  if (errno === '') return new KmsError('INTERNAL', undefined, { cause: error });
  const { syscall = 'read' } = error as NodeJS.ErrnoException;
  return new KmsError('STORE_UNAVAILABLE', `${errno} at ${syscall}`, { cause: error });
}

type Descriptors = readonly [shared: number, blocking: number];

/** Nothing was written through a directory's descriptor: a failure to close one has nothing to tell. */
async function closeAll(system: FileSystem, fds: readonly number[]): Promise<void> {
  for (const fd of fds) await system.close(fd).catch(() => {});
}

/** The steps of which every write of a document in one directory is made; which steps in which order is its user's concern. */
export class DurableDirectory {
  readonly path: string;
  readonly #system: FileSystem;
  readonly #latch: WriteLatch;
  readonly #turnstile: Turnstile;
  readonly #fds: Descriptors;
  /** As it was when it was opened: its descriptors may be closed by the time that a read still under way has to ask. */
  readonly #ours: Stats;
  readonly #owner: Owner | undefined;
  readonly #sync: DirectorySync;

  private constructor(path: string, system: FileSystem, latch: WriteLatch, turnstile: Turnstile, fds: Descriptors, ours: Stats) {
    this.path = path;
    this.#system = system;
    this.#latch = latch;
    this.#turnstile = turnstile;
    this.#fds = fds;
    this.#ours = ours;
    this.#owner = ownerToKeep(system, ours);
    this.#sync = new DirectorySync(system, fds[0]);
  }

  static async open(path: string, system: FileSystem, latch: WriteLatch, turnstile: Turnstile): Promise<DurableDirectory> {
    const opened: number[] = [];
    try {
      const shared = await system.open(path, DIRECTORY_FLAGS, 0);
      opened.push(shared);
      // Linux reports a write-back error once per open descriptor. A blocking fsync on the shared one could return success
      // because an asynchronous fsync, not yet called back, has taken the error: it gets its own.
      const blocking = await system.open(path, DIRECTORY_FLAGS, 0);
      opened.push(blocking);
      return new DurableDirectory(path, system, latch, turnstile, [shared, blocking], await system.fstat(shared));
    } catch (error) {
      await closeAll(system, opened);
      throw error;
    }
  }

  /** Writes a temporary file for `name` and makes its content durable. Returns its path. */
  async stage(name: string, bytes: Uint8Array): Promise<string> {
    const temporary = this.#temporary(name);
    await this.#turnstile.through(async () => {
      let fd: number | undefined;
      try {
        fd = await this.#system.open(temporary, CREATE_FLAGS, FILE_MODE);
        if (this.#owner !== undefined) await this.#system.fchown(fd, this.#owner.uid, this.#owner.gid);
        await writeWhole(this.#system, fd, bytes);
        await this.#system.fsync(fd).catch((error) => Promise.reject(this.#latch.fsyncFailed(error)));
        const written = fd;
        fd = undefined;
        await this.#system.close(written);
      } catch (error) {
        const failure = this.#latch.failed(error);
        if (fd !== undefined) await this.#system.close(fd).catch((again) => this.#latch.failed(again));
        await this.discard(temporary);
        throw failure;
      }
    });
    return temporary;
  }

  stageSync(name: string, bytes: Uint8Array): string {
    const temporary = this.#temporary(name);
    let fd: number | undefined;
    try {
      fd = this.#system.openSync(temporary, CREATE_FLAGS, FILE_MODE);
      if (this.#owner !== undefined) this.#system.fchownSync(fd, this.#owner.uid, this.#owner.gid);
      writeWholeSync(this.#system, fd, bytes);
      this.#fsyncSync(fd);
      const written = fd;
      fd = undefined;
      this.#system.closeSync(written);
    } catch (error) {
      const failure = this.#latch.failed(error);
      if (fd !== undefined) this.#attempt(() => this.#system.closeSync(fd as number));
      this.discardSync(temporary);
      throw failure;
    }
    return temporary;
  }

  /** Gives a staged file its name; CONFLICT if that is taken. */
  async publishNew(temporary: string, name: string): Promise<void> {
    try {
      this.#latch.refuseIfLost();
      await this.#system.link(temporary, join(this.path, name));
    } catch (error) {
      if (errnoOf(error) === 'EEXIST') throw new KmsError('CONFLICT', 'the key id is taken');
      throw this.#latch.failed(error);
    } finally {
      await this.discard(temporary);
    }
  }

  /** Gives a file of another directory a name here, too, unless there is one under it. False if there is no such file. */
  async adopt(path: string, name: string): Promise<boolean> {
    return this.#brought(() => this.#system.link(path, join(this.path, name)));
  }

  /** Moves what stands under a name in another directory here, whatever it is. False if nothing does. */
  async take(path: string, name: string): Promise<boolean> {
    return this.#brought(() => this.#system.rename(path, join(this.path, name)));
  }

  async #brought(bring: () => Promise<void>): Promise<boolean> {
    try {
      this.#latch.refuseIfLost();
      await this.#turnstile.through(bring);
      return true;
    } catch (error) {
      if (errnoOf(error) === 'EEXIST') return true;
      if (errnoOf(error) !== 'ENOENT') throw this.#latch.failed(error);
      await this.#turnstile.through(() => this.#refuseUnlessThere());
      return false;
    }
  }

  /** False if there was none. */
  async remove(name: string): Promise<boolean> {
    try {
      this.#latch.refuseIfLost();
      await this.#turnstile.through(() => this.#system.unlink(join(this.path, name)));
      return true;
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return false;
      throw this.#latch.failed(error);
    }
  }

  /** Puts a staged file in the place of `name`, or drops it. */
  replaceSync(temporary: string, name: string): void {
    try {
      this.#latch.refuseIfLost();
      this.#system.renameSync(temporary, join(this.path, name));
    } catch (error) {
      this.discardSync(temporary);
      throw this.#latch.failed(error);
    }
  }

  /** What cannot be removed now is removed at the next open; it must not hide why the write failed. */
  async discard(temporary: string): Promise<void> {
    await this.#system.unlink(temporary).catch((error) => this.#latch.failed(error));
  }

  discardSync(temporary: string): void {
    this.#attempt(() => this.#system.unlinkSync(temporary));
  }

  /** Resolves when the names given so far are durable. */
  async sync(): Promise<void> {
    await this.#sync.run().catch((error) => Promise.reject(this.#latch.fsyncFailed(error)));
  }

  syncSync(): void {
    this.#fsyncSync(this.#fds[1]);
  }

  /** The content of `name`, undefined if there is none. `inspect` may refuse it by its status. */
  async read(name: string, limit: number, inspect?: (stats: Stats) => void): Promise<Uint8Array | undefined> {
    try {
      return await this.#turnstile.through(async () => {
        const fd = await this.#system.open(join(this.path, name), READ_FLAGS, 0);
        try {
          const stats = await this.#system.fstat(fd);
          refuseIrregular(stats, limit);
          inspect?.(stats);
          return await readWhole(this.#system, fd, stats.size);
        } finally {
          await this.#system.close(fd);
        }
      });
    } catch (error) {
      const failure = readFailure(error);
      if (failure !== undefined) throw failure;
      await this.#turnstile.through(() => this.#refuseUnlessThere());
      return undefined;
    }
  }

  /** A name that is not there means something only while this is: without its mount, no key would seem to exist. */
  async #refuseUnlessThere(): Promise<void> {
    let there: Stats | undefined;
    try {
      const fd = await this.#system.open(this.path, DIRECTORY_FLAGS, 0);
      there = await this.#system.fstat(fd).finally(() => this.#system.close(fd));
    } catch {
      // Whatever hides it: it is not there.
    }
    this.#refuseUnlessOurs(there);
  }

  #refuseUnlessThereSync(): void {
    let there: Stats | undefined;
    try {
      const fd = this.#system.openSync(this.path, DIRECTORY_FLAGS, 0);
      there = this.#system.fstatSync(fd);
      this.#system.closeSync(fd);
    } catch {
      // As above.
    }
    this.#refuseUnlessOurs(there);
  }

  #refuseUnlessOurs(there: Stats | undefined): void {
    if (there !== undefined && there.ino === this.#ours.ino && there.dev === this.#ours.dev) return;
    throw new KmsError('STORE_UNAVAILABLE', `${this.path} is gone`);
  }

  readSync(name: string, limit: number): Uint8Array | undefined {
    try {
      const fd = this.#system.openSync(join(this.path, name), READ_FLAGS, 0);
      try {
        const stats = this.#system.fstatSync(fd);
        refuseIrregular(stats, limit);
        return readWholeSync(this.#system, fd, stats.size);
      } finally {
        this.#system.closeSync(fd);
      }
    } catch (error) {
      const failure = readFailure(error);
      if (failure !== undefined) throw failure;
      this.#refuseUnlessThereSync();
      return undefined;
    }
  }

  async close(): Promise<void> {
    await closeAll(this.#system, this.#fds);
  }

  #temporary(name: string): string {
    return join(this.path, `.${name}.${randomBytes(8).toString('hex')}.tmp`);
  }

  #fsyncSync(fd: number): void {
    try {
      this.#system.fsyncSync(fd);
    } catch (error) {
      throw this.#latch.fsyncFailed(error);
    }
  }

  #attempt(step: () => void): void {
    try {
      step();
    } catch (error) {
      this.#latch.failed(error);
    }
  }
}
