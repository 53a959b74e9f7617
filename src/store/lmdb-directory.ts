import { randomBytes } from 'node:crypto';
import { join, resolve } from 'node:path';
import { KmsError } from '../errors.js';
import { binding } from '../native.js';
import { FILE_MODE, giveFile, type Owner, prepareDirectory, refuseWider, removeLeftovers, syncWayTo } from './data-directory.js';
import { errnoOf, READ_FLAGS, nodeFileSystem as system } from './file-system.js';
import { LOCK_SUFFIX, prepareFile, prepareNewFile, sizeOf, writeProbe } from './lmdb-file.js';

const PROBE_SUFFIX = '-probe';

/** The names of temporary files as this makes them, and LMDB beside them. */
function leftoversOf(name: string): RegExp {
  return new RegExp(`^\\.${name.replaceAll('.', '\\.')}\\.[0-9a-f]{16}\\.tmp(-lock|-probe)?$`);
}

/** Where an LMDB file lies, in a directory that is held for this process alone. */
export class LmdbDirectory {
  readonly path: string;
  readonly file: string;
  readonly #name: string;
  readonly #owner: Owner | undefined;
  readonly #lock: number | undefined;

  private constructor(path: string, name: string, owner?: Owner, lock?: number) {
    this.path = path;
    this.file = join(path, name);
    this.#name = name;
    this.#owner = owner;
    this.#lock = lock;
  }

  /** One whose lock the caller has, and which it has prepared; `owner` is whom root leaves the files to. */
  static async within(path: string, name: string, owner: Owner | undefined): Promise<LmdbDirectory> {
    const directory = new LmdbDirectory(path, name, owner);
    await told(() => directory.#prepare());
    return directory;
  }

  /**
   * Makes it if it is not there. CONFLICT while somebody has it: LMDB would let several processes in, but a compaction puts another
   * file in place of the one that they have open. PERMISSION_DENIED where others could reach in.
   */
  static async open(path: string, name: string): Promise<LmdbDirectory> {
    const own = resolve(path);
    await told(() => prepareDirectory(system, own));
    const directory = new LmdbDirectory(own, name, undefined, binding.lockDirectory(own));
    try {
      await told(() => directory.#prepare());
      await told(() => syncWayTo(system, own));
      return directory;
    } catch (error) {
      directory.release();
      throw error;
    }
  }

  async #prepare(): Promise<void> {
    await removeLeftovers(system, this.path, leftoversOf(this.#name));
    for (const file of [this.file, this.file + LOCK_SUFFIX]) {
      const stats = await system.lstat(file).catch((error: unknown) => {
        if (errnoOf(error) !== 'ENOENT') throw error;
      });
      if (stats === undefined) continue;
      if (!stats.isFile()) throw new KmsError('STORE_UNAVAILABLE', `${file} is not a regular file`);
      refuseWider(system, file, stats, FILE_MODE);
    }
  }

  /** What a killed process had written and not synced is read from here on, and told as durable. */
  sync(): Promise<void> {
    return told(async () => {
      await synced(this.file);
      await synced(this.path);
    });
  }

  /** Whether the store's file is to be made: as a temporary one, so that under its name there is never half of one. */
  isNew(): Promise<boolean> {
    return told(async () => (await sizeOf(this.file)) === 0);
  }

  /** To be called before `file` is opened. Throws STORE_UNAVAILABLE for what is none. */
  ready(): Promise<void> {
    return told(async () => {
      await prepareFile(this.file);
      for (const file of [this.file, this.file + LOCK_SUFFIX]) await this.#give(file);
    });
  }

  async #give(file: string): Promise<void> {
    if (this.#owner !== undefined) await giveFile(system, file, this.#owner);
  }

  /** A path for a temporary file, ready to be opened. */
  async newScratch(): Promise<string> {
    const scratch = this.#temporary();
    try {
      await told(() => prepareNewFile(scratch, scratch + PROBE_SUFFIX));
      return scratch;
    } catch (error) {
      await this.dropScratch(scratch);
      throw error;
    }
  }

  /** Throws what the disk says to a file of a few pages, which is removed again. */
  async probe(): Promise<void> {
    const probe = this.#temporary() + PROBE_SUFFIX;
    try {
      await writeProbe(probe);
    } finally {
      await removed(probe);
    }
  }

  #temporary(): string {
    return join(this.path, `.${this.#name}.${randomBytes(8).toString('hex')}.tmp`);
  }

  syncScratch(scratch: string): Promise<void> {
    return told(() => synced(scratch));
  }

  /** What is there of it. */
  dropScratch(scratch: string): Promise<void> {
    return told(async () => {
      await removed(scratch);
      await removed(scratch + LOCK_SUFFIX);
      await removed(scratch + PROBE_SUFFIX);
    });
  }

  /** Puts `scratch` in place of the store's file; nobody has either open, so LMDB makes the lock anew that it finds. */
  replace(scratch: string): Promise<void> {
    return told(async () => {
      await removed(scratch + LOCK_SUFFIX);
      await this.#give(scratch);
      await system.rename(scratch, this.file);
    });
  }

  release(): void {
    if (this.#lock !== undefined) binding.unlock(this.#lock);
  }
}

async function removed(path: string): Promise<void> {
  try {
    await system.unlink(path);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
}

async function synced(path: string): Promise<void> {
  const fd = await system.open(path, READ_FLAGS, 0);
  try {
    await system.fsync(fd);
  } finally {
    await system.close(fd);
  }
}

async function told<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof KmsError) throw error;
    const { syscall = 'open', path = '' } = error as NodeJS.ErrnoException;
    throw new KmsError('STORE_UNAVAILABLE', `${errnoOf(error) || 'failure'} at ${syscall} ${path}`, { cause: error });
  }
}
