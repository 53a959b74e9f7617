import { KmsError } from '../errors.js';
import { MAX_STORED_VALUE_BYTES } from '../limits.js';
import { CommitQueue } from '../store/commit-queue.js';
import { LmdbDirectory } from '../store/lmdb-directory.js';
import { type Lmdb, LmdbEnvironment } from '../store/lmdb-environment.js';
import type { Entry, RangeQuery, ThreadStore, Unit } from './thread-store.js';

export const STORE_FILE = 'threads.mdb';
const KEY = /^[\x20-\x7e]{1,1024}$/;
/** Ends of ranges: a byte beyond a key, or after all that are printable. */
const BOUND = /^[\x20-\x7f]{0,1026}$/;
/** What a compaction copies at once: the event loop is kept for so long. */
const PAGE_BYTES = 1024 * 1024;
const PAGE_ENTRIES = 1_024;

/**
 * The default store of threads: one LMDB file in a directory of its own (0700), made if it is not there. Throws CONFLICT while
 * somebody else has it open, PERMISSION_DENIED where others could reach in, and STORE_UNAVAILABLE for what is damaged.
 */
export async function openLmdbThreadStore(path: string): Promise<ThreadStore> {
  // An addon of its own, which only those load who keep threads in it.
  const lmdb = await import('lmdb');
  const directory = await LmdbDirectory.open(path, STORE_FILE);
  try {
    if (await directory.isNew()) await make(lmdb, directory);
    await directory.ready();
    const environment = new LmdbEnvironment(lmdb, directory.file);
    try {
      await directory.sync();
      return new LmdbThreadStore(lmdb, directory, environment);
    } catch (error) {
      await environment.close();
      throw error;
    }
  } catch (error) {
    directory.release();
    throw error;
  }
}

async function make(lmdb: Lmdb, directory: LmdbDirectory): Promise<void> {
  const scratch = await directory.newScratch();
  try {
    await new LmdbEnvironment(lmdb, scratch).close();
    await directory.syncScratch(scratch);
    await directory.replace(scratch);
  } catch (error) {
    await directory.dropScratch(scratch);
    throw error;
  }
}

class LmdbThreadStore implements ThreadStore {
  /** The lock beside the file is held by one process. */
  readonly isShared = false;
  readonly #lmdb: Lmdb;
  readonly #directory: LmdbDirectory;
  readonly #queue: CommitQueue<Unit, boolean>;
  /** undefined when it could not be opened again. */
  #environment: LmdbEnvironment | undefined;
  /** While the file is closed. */
  #closed: Promise<void> | undefined;
  /** A write has failed: what LMDB keeps in memory is not built upon. */
  #isSuspect = false;
  #end: Promise<void> | undefined;

  constructor(lmdb: Lmdb, directory: LmdbDirectory, environment: LmdbEnvironment) {
    this.#lmdb = lmdb;
    this.#directory = directory;
    this.#environment = environment;
    this.#queue = new CommitQueue({
      write: (change) => this.#write(change),
      apply: (unit) => (this.#environment as LmdbEnvironment).apply(unit),
      bytesOf: ({ put }) => put.reduce((sum, { value }) => sum + value.length, 0),
      compact: () => this.#compact(),
    });
  }

  async get(keys: readonly string[]): Promise<Array<Uint8Array | undefined>> {
    keys.forEach(checkKey);
    const environment = await this.#readable();
    return keys.map((key) => environment.get(key));
  }

  async range(query: RangeQuery): Promise<Entry[]> {
    for (const bound of [query.from, query.to])
      if (!BOUND.test(bound)) throw new KmsError('INVALID_ARGUMENT', 'an end of a range');
    const environment = await this.#readable();
    return environment.range(query);
  }

  async commit(units: readonly Unit[]): Promise<boolean[]> {
    this.#refuseClosed();
    for (const { expect, put, remove } of units) {
      for (const { key } of expect) checkKey(key);
      for (const key of remove) checkKey(key);
      for (const { key, value } of put) {
        checkKey(key);
        if (value.length > MAX_STORED_VALUE_BYTES)
          throw new KmsError('TOO_LARGE', `a value is up to ${MAX_STORED_VALUE_BYTES} bytes`);
      }
    }
    return this.#queue.commit(units);
  }

  async compact(): Promise<void> {
    this.#refuseClosed();
    return this.#queue.compact();
  }

  /** What was asked before is done. */
  close(): Promise<void> {
    this.#end ??= this.#close();
    return this.#end;
  }

  async #close(): Promise<void> {
    await this.#queue.idle();
    await this.#environment?.close();
    this.#directory.release();
  }

  #refuseClosed(): void {
    if (this.#end !== undefined) throw new KmsError('STORE_UNAVAILABLE', 'the store is closed');
  }

  async #readable(): Promise<LmdbEnvironment> {
    this.#refuseClosed();
    // One that could not be opened again is tried again by a write, of nothing.
    if (this.#environment === undefined && this.#closed === undefined) await this.#queue.commit([]);
    while (this.#closed !== undefined) await this.#closed;
    this.#refuseClosed();
    return this.#opened();
  }

  #opened(): LmdbEnvironment {
    if (this.#environment === undefined) throw new KmsError('STORE_UNAVAILABLE', 'it could not be opened again');
    return this.#environment;
  }

  async #write<T>(change: () => T): Promise<T> {
    if (this.#isSuspect || this.#environment === undefined) await this.#reopen(async () => {});
    try {
      return await this.#opened().write(change);
    } catch (error) {
      this.#isSuspect = true;
      throw error;
    }
  }

  /** Closes the file, does something to it that may fail, and opens it again either way. Who reads meanwhile waits. */
  async #reopen(between: () => Promise<void>): Promise<void> {
    let open = () => {};
    this.#closed = new Promise((resolve) => {
      open = resolve;
    });
    const before = this.#environment;
    this.#environment = undefined;
    try {
      await before?.close();
      try {
        await between();
      } finally {
        await this.#directory.ready();
        this.#environment = new LmdbEnvironment(this.#lmdb, this.#directory.file);
        this.#isSuspect = false;
      }
    } finally {
      this.#closed = undefined;
      open();
    }
  }

  /**
   * LMDB frees the pages of what was removed or replaced without wiping them, and in those that it keeps leaves what lay between
   * the entries, or behind the end of a large value that took the place of a larger one. Its own compacting copy takes pages of
   * the latter kind as they are. So every entry is written anew, into pages that are zeros before. Nobody writes meanwhile;
   * readers wait only while the files change places.
   *
   * The new file is complete and synced before the rename, and the rename is durable before anybody is told. A crash before it
   * leaves the old file in place, and a temporary one that the next start removes; after it, one or the other of two files with
   * the same entries, and nobody was promised which.
   */
  async #compact(): Promise<void> {
    const scratch = await this.#directory.newScratch();
    try {
      if (this.#environment === undefined) await this.#reopen(async () => {});
      await this.#copy(this.#opened(), scratch);
      await this.#directory.syncScratch(scratch);
      await this.#reopen(() => this.#directory.replace(scratch));
    } catch (error) {
      await this.#directory.dropScratch(scratch);
      throw error;
    }
    await this.#directory.sync();
  }

  async #copy(from: LmdbEnvironment, scratch: string): Promise<void> {
    const to = new LmdbEnvironment(this.#lmdb, scratch, { isScratch: true });
    try {
      for (let at = ''; ; ) {
        const page = from.range({ from: at, to: '\x7f', limit: PAGE_ENTRIES, bytes: PAGE_BYTES });
        const last = page.at(-1);
        if (last === undefined) break;
        await to.write(() => to.append(page));
        at = `${last.key} `;
      }
      if (to.size !== from.size) throw new KmsError('STORE_UNAVAILABLE', 'a copy of it is not complete');
    } finally {
      await to.close();
    }
  }
}

function checkKey(key: string): void {
  if (!KEY.test(key)) throw new KmsError('INVALID_ARGUMENT', 'a key of the store');
}
