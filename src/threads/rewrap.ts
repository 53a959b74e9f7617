import { asKmsError, KmsError } from '../errors.js';
import type { CreatedKey, Provider } from '../provider.js';
import { threadKey } from './names.js';
import type { ThreadDirectory } from './thread-directory.js';
import { changedThread, type ThreadKeys } from './thread-record.js';
import type { ThreadStore } from './thread-store.js';

const MAX_PARALLELISM = 16;
const DEFAULT_PARALLELISM = 4;
/** Failures told one by one; more are counted. */
const MAX_TOLD = 100;

export interface Rewrapped {
  /** Threads whose keys are under the active KEK, and whose records say so. */
  rewrapped: number;
  /** Threads without a key. */
  skipped: number;
  failed: number;
  /** Up to 100 of these. */
  failures: Array<{ threadId: string; error: KmsError }>;
}

/**
 * Moves the keys of threads to the active KEK, and writes into their records what they are wrapped as. The key service keeps the
 * wrapped key that counts: the record's is what those go by who read the original's, and a crash between the two leaves one
 * that the next call mends.
 */
export class Rewrap {
  readonly #kms: Provider | undefined;
  readonly #store: ThreadStore;
  readonly #directory: ThreadDirectory;

  constructor(kms: Provider | undefined, store: ThreadStore, directory: ThreadDirectory) {
    this.#kms = kms;
    this.#store = store;
    this.#directory = directory;
  }

  /** One thread's failure leaves the others alone. */
  async rewrap(threadIds: Iterable<string> | AsyncIterable<string>, parallelism = DEFAULT_PARALLELISM): Promise<Rewrapped> {
    if (!Number.isInteger(parallelism) || parallelism < 1 || parallelism > MAX_PARALLELISM) {
      throw new KmsError('INVALID_ARGUMENT', `parallelism: 1 to ${MAX_PARALLELISM}`);
    }
    if (this.#kms === undefined) throw new KmsError('UNSUPPORTED', 'there is no key service to rewrap with');
    const done: Rewrapped = { rewrapped: 0, skipped: 0, failed: 0, failures: [] };
    const left = iteratorOf(threadIds);
    const worker = async () => {
      for (let next = await left.next(); next.done !== true; next = await left.next()) await this.#told(next.value, done);
    };
    await Promise.all(Array.from({ length: parallelism }, worker));
    return done;
  }

  async #told(threadId: string, done: Rewrapped): Promise<void> {
    try {
      if (await this.#thread(threadId)) done.rewrapped += 1;
      else done.skipped += 1;
    } catch (error) {
      done.failed += 1;
      if (done.failures.length < MAX_TOLD) done.failures.push({ threadId, error: asKmsError(error) });
    }
  }

  /** False for a thread without a key. */
  async #thread(threadId: string): Promise<boolean> {
    const kms = this.#kms as Provider;
    for (;;) {
      const record = await this.#directory.record(threadId);
      if (record.keys === undefined) return false;
      const { keyId, all } = record.keys;
      for (const older of all) if (older !== keyId) await unlessGone(kms.rewrapDek(older));
      const { wrapped, kekId, kekVersion } = await kms.rewrapDek(keyId);
      const keys: ThreadKeys = { ...record.keys, wrapped: Buffer.from(wrapped).toString('base64'), kekId, kekVersion };
      const key = threadKey(threadId);
      const put = [{ key, value: changedThread(record, { keys }) }];
      // Whoever changed the record meanwhile may have given it another key: all of it is done again.
      if ((await this.#store.commit([{ expect: [{ key, value: record.bytes }], put, remove: [] }]))[0]) return true;
    }
  }
}

async function* iteratorOf(threadIds: Iterable<string> | AsyncIterable<string>): AsyncGenerator<string> {
  yield* threadIds;
}

/** An older key of a thread is destroyed while its backups go. */
async function unlessGone(work: Promise<CreatedKey>): Promise<void> {
  try {
    await work;
  } catch (error) {
    const isGone = error instanceof KmsError && (error.code === 'KEY_DESTROYED' || error.code === 'KEY_NOT_FOUND');
    if (!isGone) throw error;
  }
}
