import { basename } from 'node:path';
import type { RootDatabase } from 'lmdb';
import { KmsError } from '../errors.js';
import { FILE_MODE } from './data-directory.js';
import type { Entry, Expectation, RangeQuery, Unit } from './entries.js';

export type Lmdb = typeof import('lmdb');

/** Below all that is printable, and not empty: LMDB knows no empty key. */
const LOWEST = '\x01';
const HIGHEST = '\xff';

const nothing = () => {};

const NEW = { noOverwrite: true };
/** Of an asynchronous put; declared to be a version, it is none for a key that is not there. */
const ONLY_NEW = null as unknown as number;

/** Keys are the bytes of their ASCII text, so that LMDB's own order, that of bytes, is the port's. */
const KEY_ENCODER = {
  writeKey(key: string, target: Buffer, start: number): number {
    // A write that does not fit is cut short, and would name another key.
    if (key.length > target.length - start) throw new RangeError('no room for the key');
    return start + target.write(key, start, 'latin1');
  },
  readKey: (source: Buffer, start: number, end: number): string => source.toString('latin1', start, end),
};

export interface EnvironmentOptions {
  /** A file that is thrown away unless its owner syncs it as a whole. */
  isScratch?: boolean;
}

/**
 * One LMDB file, as lmdb-js opens it. All methods are used by one writer at a time; readers need not mind it.
 *
 * A commit that was told survives the end of the process and the loss of power because this is LMDB as it was published: pages
 * are never changed in place, all new ones of a transaction are written and synced (fdatasync) before the page that names its
 * root, one of two in turn, is written through a descriptor that syncs each write (O_DSYNC), and only then does the call return.
 * Hence no `overlappingSync`, which lmdb-js turns on by itself: it lets others see a transaction before it is synced, and after
 * a crash decides by the machine's boot id whether what was never synced can be trusted, which a copied disk image
 * answers wrongly; with `safeRestore` it would go back behind what readers had been shown. Nor `noSync`, nor a writable map,
 * through which a stray pointer would reach the file.
 */
export class LmdbEnvironment {
  readonly #db: RootDatabase<Uint8Array, string>;
  readonly #name: string;

  /** The file is ready to be opened: see lmdb-file.ts. */
  constructor(lmdb: Lmdb, path: string, { isScratch = false }: EnvironmentOptions = {}) {
    const options = {
      noSubdir: true,
      encoding: 'binary',
      keyEncoder: KEY_ENCODER,
      permissionsMode: FILE_MODE,
      overlappingSync: false,
      noSync: isScratch,
      // Memory that has held something else is not written out as the unused part of a page.
      noMemInit: false,
    } as const;
    this.#name = basename(path);
    this.#db = this.#told('open', () => lmdb.open<Uint8Array, string>(path, options));
  }

  get(key: string): Uint8Array | undefined {
    return this.#told('read', () => this.#db.getBinary(key));
  }

  /** As `get`, but the bytes are good until the next call of any method. */
  getFast(key: string): Uint8Array | undefined {
    return this.#told('read', () => this.found(key));
  }

  /** The keys alone of what `range` would find. */
  keys(query: Pick<RangeQuery, 'from' | 'to' | 'limit'>): string[] {
    const { from, to, limit } = query;
    if (from >= to || limit <= 0) return [];
    const keys = this.#keysOf({ start: from, end: to }, limit);
    this.#refuseDisorder(keys, query, keys.length < limit);
    return keys;
  }

  /** One snapshot. A value is read when its turn comes: those beyond `bytes` are not. */
  range({ from, to, limit, bytes = Number.POSITIVE_INFINITY, reverse = false }: RangeQuery): Entry[] {
    const entries: Entry[] = [];
    const lowest = from < LOWEST ? LOWEST : from;
    if (lowest >= to || limit <= 0) return entries;
    const bounds = boundsOf(lowest, to, reverse);
    const found = this.#told('read', () => this.#db.getRange({ ...bounds, limit })[Symbol.iterator]());
    let isEnded = false;
    try {
      for (let left = bytes; left > 0; ) {
        const { value, done } = this.#told('read', () => found.next());
        isEnded = done === true;
        if (done) break;
        entries.push(value as Entry);
        left -= (value as Entry).value.length;
      }
    } finally {
      found.return?.();
    }
    const keys = entries.map(({ key }) => key);
    this.#refuseDisorder(keys, { from: lowest, to, reverse }, isEnded && keys.length < limit);
    return entries;
  }

  /**
   * In a damaged page a key may stand that is not in its place, at which a range begins or ends, or goes back: whoever rotates would pass
   * over the keys behind it and think that he had seen all. So keys are in order, at either end with their neighbours too, and a search
   * from the other side finds the same last one. Nothing is committed in between for who reads within one turn: lmdb-js keeps
   * its snapshot for it.
   */
  #refuseDisorder(keys: readonly string[], query: Omit<RangeQuery, 'limit'>, isEnded: boolean): void {
    const { from, to, reverse = false } = query;
    const last = keys.at(-1);
    const isOrdered =
      areOrdered(keys, reverse) &&
      keys.every((key) => key >= from && key < to) &&
      this.#isEdge(keys[0], query, !reverse) &&
      (!isEnded || (this.#isEdge(last, query, reverse) && this.#keysOf(boundsOf(from, to, !reverse), 1)[0] === last));
    if (!isOrdered) throw new KmsError('STORE_UNAVAILABLE', `${this.#name} is damaged: its keys are out of order`);
  }

  /** Whether what lies before a range, or behind it, is in order with the key at its end and not of the range. */
  #isEdge(key: string | undefined, { from, to }: Omit<RangeQuery, 'limit'>, isBefore: boolean): boolean {
    const bounds = isBefore
      ? { start: key ?? from, exclusiveStart: true, end: LOWEST, inclusiveEnd: true, reverse: true }
      : { start: key ?? to, exclusiveStart: key !== undefined, end: HIGHEST };
    const beyond = this.#keysOf(bounds, 2);
    return areOrdered(beyond, isBefore) && beyond.every((one) => (isBefore ? one < from : one >= to));
  }

  #keysOf(bounds: object, limit: number): string[] {
    return this.#told('read', () => [...this.#db.getKeys({ ...bounds, limit })]);
  }

  /**
   * Calls `change` inside a transaction and resolves with its result when that is durable. If it throws, or the transaction cannot
   * be written, none of it happened and this rejects with STORE_UNAVAILABLE; the environment is to be closed then: LMDB refuses
   * all writes after some failures, and lmdb-js does not answer those that come after such a refusal.
   */
  async write<T>(change: () => T): Promise<T> {
    try {
      // A child: of an outer transaction lmdb-js commits what there was before the callback threw.
      return await this.#db.childTransaction(() => {
        // Of a commit that fails it rejects a promise of its own, too, which nobody else hears of: it would end the process.
        this.#db.committed.then(undefined, () => {});
        return change();
      });
    } catch (error) {
      throw this.#failure('write', await reasonOf(error));
    }
  }

  /**
   * Adds entries whose keys are free, and resolves, in their order, to whether each was, when that is durable. As of `write`, but LMDB's
   * own thread makes them: of a thousand, that leaves this one most of the time. They need not share a transaction.
   */
  async addNew(entries: readonly Entry[]): Promise<boolean[]> {
    try {
      const added = entries.map(({ key, value }) => this.#db.put(key, value, undefined as unknown as number, ONLY_NEW));
      // Once the turn is over lmdb-js makes a promise of the commit, too, which nobody else hears of: rejected, it would end the process.
      setImmediate(() => this.#db.committed.then(nothing, nothing));
      return await Promise.all(added);
    } catch (error) {
      throw this.#failure('write', await reasonOf(error));
    }
  }

  /**
   * The same as `write`, blocking. Of a transaction that another thread has begun for `write` lmdb-js commits what there is, which is nothing
   * before its `change` has been called, and awaits the end of one whose `change` has: what is made here is one of its own, and durable.
   */
  writeSync<T>(change: () => T): T {
    return this.#told('write', () => this.#db.transactionSync(change));
  }

  /** Inside a write. The bytes are good until the next call. */
  found(key: string): Uint8Array | undefined {
    const found = this.#db.getBinaryFast(key);
    // It lies at the beginning of the one buffer that lmdb-js reads into, whose `length` it sets, and native code does not see that.
    return found?.subarray(0, found.length);
  }

  /** Inside a write. False, and nothing is changed, where something is there. */
  putNew(key: string, value: Uint8Array): boolean {
    // Declared to answer nothing, it answers whether it was done.
    return this.#db.putSync(key, value, NEW) as unknown as boolean;
  }

  /** Inside a write. */
  put(key: string, value: Uint8Array): void {
    this.#db.putSync(key, value);
  }

  /** Inside a write. */
  remove(key: string): void {
    this.#db.removeSync(key);
  }

  /** Inside `write`. Whether its expectations held, and it was made. */
  apply({ expect, put, remove }: Unit): boolean {
    if (!expect.every((one) => this.#holds(one))) return false;
    for (const key of remove) this.#db.remove(key);
    for (const { key, value } of put) this.#db.put(key, value);
    return true;
  }

  #holds({ key, value }: Expectation): boolean {
    const found = this.found(key);
    if (value === undefined || found === undefined) return value === found;
    return Buffer.compare(found, value) === 0;
  }

  /** Inside `write`: entries beyond all that there are, in order. Fills pages to their ends. */
  append(entries: readonly Entry[]): void {
    for (const { key, value } of entries) this.#db.putSync(key, value, { append: true });
  }

  get size(): number {
    return this.#told('read', () => (this.#db.getStats() as { entryCount: number }).entryCount);
  }

  async close(): Promise<void> {
    await this.#db.close();
  }

  #failure(deed: string, cause: unknown): KmsError {
    if (cause instanceof KmsError) return cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    return new KmsError('STORE_UNAVAILABLE', `${this.#name}, at ${deed}: ${reason}`, { cause });
  }

  #told<T>(deed: string, work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw this.#failure(deed, error);
    }
  }
}

function areOrdered(keys: readonly string[], reverse: boolean): boolean {
  return keys.every((key, n) => n === 0 || (reverse ? key < (keys[n - 1] as string) : key > (keys[n - 1] as string)));
}

function boundsOf(from: string, to: string, reverse: boolean) {
  return reverse ? { start: to, exclusiveStart: true, end: from, inclusiveEnd: true, reverse } : { start: from, end: to };
}

/** Why a commit failed lmdb-js says in a promise of its own, which rejects with it. */
async function reasonOf(error: unknown): Promise<unknown> {
  const { commitError } = error as { commitError?: Promise<never> };
  if (commitError === undefined) return error;
  return commitError.catch((reason: unknown) => reason);
}
