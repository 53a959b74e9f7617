import { basename, dirname, join, resolve } from 'node:path';
import { KmsError } from '../errors.js';
import { binding } from '../native.js';
import { DIRECTORY_MODE, type Owner, ownerToKeep } from '../store/data-directory.js';
import { CREATE_FLAGS, DIRECTORY_FLAGS, errnoOf, type FileSystem, READ_FLAGS, writeWhole } from '../store/file-system.js';

/** Where a restore builds, beside the directory it is for; the time pairs it with what it sets aside. */
const STAGING = /\.restore-(\d{8}T\d{9}Z)$/;
const COPY_BYTES = 1024 * 1024;

function failure(path: string, error: unknown): Error {
  if (error instanceof KmsError) return error;
  const errno = errnoOf(error);
  if (errno === '') return new KmsError('INTERNAL', undefined, { cause: error });
  const { syscall = 'open' } = error as NodeJS.ErrnoException;
  const code = errno === 'EACCES' || errno === 'EPERM' ? 'PERMISSION_DENIED' : 'STORE_UNAVAILABLE';
  return new KmsError(code, `${path}: ${errno} at ${syscall}`, { cause: error });
}

/**
 * The directory that a restore replaces, and the one beside it in which the new one is made.
 *
 * Crash story: the new directory is whole and synced before anything is renamed. Then the old one is renamed aside, and the
 * new one to its place, with an fsync of the parent after each. A crash before the first rename leaves the old one, between
 * the two both of them whole and neither in place, after the second the new one. What it leaves is put right by the next restore:
 * what was set aside and not replaced goes back, what was being made is removed. Until then `refuseInterrupted` keeps a start from making
 * an empty store in the gap.
 */
export class Target {
  readonly path: string;
  readonly staging: string;
  readonly #aside: string;
  readonly #system: FileSystem;
  /** Undefined for a directory that is not there or empty. */
  readonly #lock: number | undefined;
  #stagingLock: number | undefined;
  readonly #owner: Owner | undefined;

  private constructor(system: FileSystem, path: string, lock: number | undefined, owner: Owner | undefined) {
    const time = new Date().toISOString().replace(/[-:.]/g, '');
    this.#system = system;
    this.path = path;
    this.staging = join(dirname(path), `.${basename(path)}.restore-${time}`);
    this.#aside = `${path}.before-restore-${time}`;
    this.#lock = lock;
    this.#owner = owner;
  }

  /** Throws CONFLICT for a directory in use, or one that is not empty without `force`. */
  static async take(system: FileSystem, dataDir: string, force: boolean): Promise<Target> {
    const path = resolve(dataDir);
    try {
      await putRight(system, path);
      const names = await contentOf(system, path);
      const parent = await system.stat(dirname(path));
      if (names === undefined) return new Target(system, path, undefined, ownerToKeep(system, parent));
      const stats = await system.lstat(path);
      if (stats.isSymbolicLink())
        throw new KmsError('INVALID_ARGUMENT', `${path} is a link: name the directory that it leads to`);
      if (stats.dev !== parent.dev) {
        throw new KmsError(
          'UNSUPPORTED',
          `${path} is a mount point and cannot be renamed: restore to a directory in it, as ${path}/kms`,
        );
      }
      const owner = ownerToKeep(system, stats);
      if (names.length === 0) return new Target(system, path, undefined, owner);
      if (!force) throw new KmsError('CONFLICT', `${path} is not empty: --force sets it aside and restores in its place`);
      return new Target(system, path, binding.lockDirectory(path), owner);
    } catch (error) {
      throw failure(path, error);
    }
  }

  /** Whether something is there that will be set aside. */
  get replaces(): boolean {
    return this.#lock !== undefined;
  }

  /** Makes the staging directory, locked against another restore and, once it is in place, against a start. */
  async begin(): Promise<void> {
    try {
      await this.#system.mkdir(this.staging, DIRECTORY_MODE);
      await this.#give(this.staging, DIRECTORY_FLAGS);
      this.#stagingLock = binding.lockDirectory(this.staging);
    } catch (error) {
      throw failure(this.staging, error);
    }
  }

  /** A durable file in the staging directory. */
  async put(name: string, bytes: Uint8Array): Promise<void> {
    await this.#make(name, async (fd) => await writeWhole(this.#system, fd, bytes));
  }

  /** The same from a file of the old directory. */
  async carry(name: string): Promise<void> {
    const from = await this.#system.open(join(this.path, name), READ_FLAGS, 0);
    try {
      await this.#make(name, async (fd) => {
        const piece = new Uint8Array(COPY_BYTES);
        for (let got = -1; got !== 0; ) {
          got = await this.#system.read(from, piece, 0);
          await writeWhole(this.#system, fd, piece.subarray(0, got));
        }
      });
    } finally {
      await this.#system.close(from);
    }
  }

  async #make(name: string, fill: (fd: number) => Promise<void>): Promise<void> {
    const path = join(this.staging, name);
    try {
      const fd = await this.#system.open(path, CREATE_FLAGS, 0o600);
      try {
        if (this.#owner !== undefined) await this.#system.fchown(fd, this.#owner.uid, this.#owner.gid);
        await fill(fd);
        await this.#system.fsync(fd);
      } finally {
        await this.#system.close(fd);
      }
    } catch (error) {
      throw failure(path, error);
    }
  }

  async #give(path: string, flags: number): Promise<void> {
    if (this.#owner === undefined) return;
    const fd = await this.#system.open(path, flags, 0);
    await this.#system.fchown(fd, this.#owner.uid, this.#owner.gid).finally(() => this.#system.close(fd));
  }

  /** Puts the new directory in its place. Returns where the old one is, null if there was none. */
  async swap(): Promise<string | null> {
    try {
      await syncDirectory(this.#system, this.staging);
      if (!this.replaces) {
        // Takes the place of an empty directory as well.
        await this.#system.rename(this.staging, this.path);
        await syncDirectory(this.#system, dirname(this.path));
        return null;
      }
      await this.#system.rename(this.path, this.#aside);
      try {
        await syncDirectory(this.#system, dirname(this.path));
        await this.#system.rename(this.staging, this.path);
      } catch (error) {
        await this.#system.rename(this.#aside, this.path);
        throw error;
      }
      await syncDirectory(this.#system, dirname(this.path));
      return this.#aside;
    } catch (error) {
      throw failure(this.path, error);
    }
  }

  /** Removes what was made, if it is not in its place, and lets go of both directories. */
  async end(isRestored: boolean): Promise<void> {
    if (!isRestored && this.#stagingLock !== undefined) await removeTree(this.#system, this.staging).catch(() => undefined);
    for (const lock of [this.#stagingLock, this.#lock]) if (lock !== undefined) binding.unlock(lock);
  }
}

async function contentOf(system: FileSystem, path: string): Promise<string[] | undefined> {
  try {
    return await system.readdir(path);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(errnoOf(error))) return undefined;
    throw error;
  }
}

export async function syncDirectory(system: FileSystem, path: string): Promise<void> {
  const fd = await system.open(path, DIRECTORY_FLAGS, 0);
  try {
    await system.fsync(fd);
  } finally {
    await system.close(fd);
  }
}

/** A data directory as a restore makes it: files, and directories of files. */
async function removeTree(system: FileSystem, path: string): Promise<void> {
  for (const name of await system.readdir(path)) {
    const inner = join(path, name);
    if ((await system.lstat(inner)).isDirectory()) await removeTree(system, inner);
    else await system.unlink(inner);
  }
  await system.rmdir(path);
}

const FOR_OTHERS_TO_WRITE = 0o022;

/**
 * Whether it is a directory that a restore can have left. Where others may make names, as in /tmp, one of theirs could lead a
 * restore to remove, or to put in place, what they choose; and so could a link anywhere.
 */
async function isOfRestore(system: FileSystem, path: string): Promise<boolean> {
  const stats = await system.lstat(path).catch(() => undefined);
  if (stats === undefined || !stats.isDirectory()) return false;
  const parent = await system.stat(dirname(path));
  return (parent.mode & FOR_OTHERS_TO_WRITE) === 0 || [system.effectiveUid(), 0, parent.uid].includes(stats.uid);
}

/** The staging directories that restores of `path` have left, with the time in their names. */
async function leftoversOf(system: FileSystem, path: string): Promise<Array<{ staging: string; aside: string }>> {
  const prefix = `.${basename(path)}.restore-`;
  const found: Array<{ staging: string; aside: string }> = [];
  for (const name of (await contentOf(system, dirname(path))) ?? []) {
    const time = name.startsWith(prefix) ? STAGING.exec(name)?.[1] : undefined;
    if (time === undefined || name.length !== prefix.length + time.length) continue;
    const staging = join(dirname(path), name);
    if (await isOfRestore(system, staging)) found.push({ staging, aside: `${path}.before-restore-${time}` });
  }
  return found;
}

/** Not there or empty: a service manager makes the directory of a service before each start. */
async function isVacant(system: FileSystem, path: string): Promise<boolean> {
  return ((await contentOf(system, path)) ?? []).length === 0;
}

/**
 * Throws if a restore of a directory that is not there, or empty, was interrupted: an empty store made in its place would hide the
 * one that was set aside.
 */
export async function refuseInterrupted(system: FileSystem, dataDir: string): Promise<void> {
  const path = resolve(dataDir);
  if (!(await isVacant(system, path))) return;
  const [leftover] = await leftoversOf(system, path);
  if (leftover === undefined) return;
  throw new KmsError(
    'STORE_UNAVAILABLE',
    `a restore of ${path} was interrupted: run it again, or remove ${leftover.staging} if there was no store before`,
  );
}

/** Undoes what restores that were interrupted have done. CONFLICT while one is under way. */
async function putRight(system: FileSystem, path: string): Promise<void> {
  for (const { staging, aside } of await leftoversOf(system, path)) {
    const lock = binding.lockDirectory(staging);
    try {
      if ((await isVacant(system, path)) && (await isOfRestore(system, aside))) {
        await system.rename(aside, path);
        await syncDirectory(system, dirname(path));
      }
      await removeTree(system, staging);
    } finally {
      binding.unlock(lock);
    }
  }
}
