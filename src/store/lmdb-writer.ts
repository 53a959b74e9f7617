import { getSystemErrorName } from 'node:util';
import { KmsError } from '../errors.js';
import { CommitQueue } from './commit-queue.js';
import type { Entry } from './entries.js';
import { DamagedDocument } from './key-store.js';
import type { LmdbDirectory } from './lmdb-directory.js';
import { type Lmdb, LmdbEnvironment } from './lmdb-environment.js';
import type { WriteLatch } from './write-latch.js';

/** What somebody wants changed; with the bytes that it writes, about. */
export interface Change<T> {
  /** Inside a transaction. What it throws as a KmsError or DamagedDocument is its caller's alone, so it comes before it writes. */
  apply(environment: LmdbEnvironment): T;
  bytes: number;
  /** The change as entries that are added if their keys are free: where it is no more than that, and what became of each is all. */
  added?: readonly Entry[];
}

/** What a failed change told its caller. */
class Refusal {
  readonly error: unknown;

  constructor(error: unknown) {
    this.error = error;
  }
}

export interface WriterParts {
  lmdb: Lmdb;
  directory: LmdbDirectory;
  environment: LmdbEnvironment;
  latch: WriteLatch;
}

/**
 * All writes of one LMDB file. Those that are asked for in one turn, or while others are being written, share a transaction, and
 * are told when that is durable: see LmdbEnvironment. A crash leaves each transaction whole or not at all, and of those that were
 * told every one.
 *
 * A commit that failed for want of space has left nothing: its pages are new ones, and what was committed before has been synced.
 * LMDB's memory is not built upon afterwards, and after a failure at the page with the roots it lets nobody read, so the file is
 * opened again. The next write clears the latch if it succeeds. LMDB calls a write that was cut short EIO, and that is how a disk first
 * shows that it is full: so EIO is taken for that where the disk has no room for a probe either. After any other failure of the
 * disk nothing more is written, as WriteLatch says: what is read is what was told, or a whole transaction that was being written.
 */
export class LmdbWriter {
  readonly #lmdb: Lmdb;
  readonly #directory: LmdbDirectory;
  readonly #latch: WriteLatch;
  readonly #queue: CommitQueue<Change<unknown>, unknown>;
  /** undefined while it is opened again, and when it could not be. */
  #environment: LmdbEnvironment | undefined;
  #isSuspect = false;
  /** EIO of which it is not known yet what it means. */
  #unclear: unknown;

  constructor({ lmdb, directory, environment, latch }: WriterParts) {
    this.#lmdb = lmdb;
    this.#directory = directory;
    this.#environment = environment;
    this.#latch = latch;
    this.#queue = new CommitQueue({
      write: (change) => this.#write(change),
      apply: (change) => this.#apply(change),
      bytesOf: ({ bytes }) => bytes,
      isAddition: ({ added }) => added !== undefined,
      add: (changes) => this.#add(changes),
      compact: () => this.#mend(),
    });
  }

  /** What is to be read from at once. */
  get environment(): LmdbEnvironment {
    if (this.#environment !== undefined) return this.#environment;
    this.#recover();
    throw new KmsError('STORE_UNAVAILABLE', 'the records are being opened again');
  }

  async write<T>(change: Change<T>): Promise<T> {
    const [result] = await this.writeAll([change]);
    return result as T;
  }

  /** In one transaction; rejects with what the first refused change threw, when the others have been made. */
  async writeAll<T>(changes: ReadonlyArray<Change<T>>): Promise<T[]> {
    this.#latch.refuseIfLost();
    const results = await this.#queue.commit(changes);
    for (const result of results) if (result instanceof Refusal) throw result.error;
    return results as T[];
  }

  /** Blocking. Durable when it returns; what others have asked for may come before or after it. */
  writeSync<T>(change: Change<T>): T {
    this.#latch.refuseIfLost();
    if (this.#isSuspect) {
      this.#recover();
      throw new KmsError('STORE_UNAVAILABLE', this.#latch.reason() ?? 'the records are being opened again');
    }
    const { environment } = this;
    let result: unknown;
    try {
      result = environment.writeSync(() => this.#apply(change));
      this.#latch.foundSpace();
    } catch (error) {
      const failure = this.#failed(error);
      if (this.#isSuspect) this.#recover();
      throw failure;
    }
    if (result instanceof Refusal) throw result.error;
    return result as T;
  }

  /** Once all that was asked before has been done or refused. */
  async close(): Promise<void> {
    await this.#queue.idle();
    const environment = this.#environment;
    this.#environment = undefined;
    await environment?.close();
  }

  /** It takes a turn to find out what failed and to open the file again. Whoever asks afterwards finds it open, or is told why not. */
  #recover(): void {
    this.#queue.compact().catch(() => {});
  }

  #apply(change: Change<unknown>): unknown {
    try {
      return change.apply(this.environment);
    } catch (error) {
      if (error instanceof KmsError || error instanceof DamagedDocument) return new Refusal(error);
      throw error;
    }
  }

  #write<T>(change: () => T): Promise<T> {
    return this.#commit((environment) => environment.write(change));
  }

  #add(changes: ReadonlyArray<Change<unknown>>): Promise<boolean[][]> {
    const entries = changes.map(({ added }) => added ?? []);
    return this.#commit(async (environment) => {
      const all = await environment.addNew(entries.flat());
      return entries.map((own) => all.splice(0, own.length));
    });
  }

  async #commit<T>(commit: (environment: LmdbEnvironment) => Promise<T>): Promise<T> {
    await this.#mend();
    this.#latch.refuseIfLost();
    try {
      const result = await commit(this.environment);
      this.#latch.foundSpace();
      return result;
    } catch (error) {
      const failure = this.#failed(error);
      await this.#mend().catch(() => {});
      throw failure;
    }
  }

  async #mend(): Promise<void> {
    await this.#clear();
    if (this.#isSuspect || this.#environment === undefined) await this.#reopen();
  }

  /** Finds out what an EIO meant. */
  async #clear(): Promise<void> {
    const unclear = this.#unclear;
    if (unclear === undefined) return;
    this.#unclear = undefined;
    try {
      await this.#directory.probe();
    } catch (error) {
      this.#latch.failed(error);
      return;
    }
    this.#latch.failed(unclear);
  }

  /** What LMDB could not do; `cause` has the number of the error, negative for one of LMDB's own. */
  #failed(error: unknown): unknown {
    const cause = error instanceof KmsError ? error.cause : undefined;
    const number: unknown = cause instanceof Error && 'code' in cause ? cause.code : undefined;
    // Of what a change threw nothing was written.
    if (typeof number !== 'number') return error;
    this.#isSuspect = true;
    if (number <= 0) return this.#latch.lost(cause, (error as KmsError).message);
    const failed = Object.assign(new Error(), { code: getSystemErrorName(-number), syscall: 'commit', cause });
    if (failed.code !== 'EIO') return this.#latch.failed(failed);
    this.#unclear = failed;
    return error;
  }

  /** Who reads in the same turn is refused: closing waits for nothing that takes another. */
  async #reopen(): Promise<void> {
    await this.#directory.ready();
    const before = this.#environment;
    this.#environment = undefined;
    await before?.close();
    this.#environment = new LmdbEnvironment(this.#lmdb, this.#directory.file);
    this.#isSuspect = false;
  }
}
