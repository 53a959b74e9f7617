import { asKmsError, KmsError } from '../errors.js';
import type { Provider } from '../provider.js';
import { backupsBelow } from './jobs/backups.js';
import { busyKey } from './jobs/job-book.js';
import { destroyKey } from './key-ends.js';
import { backupKey, mapKey, messagePrefix, PURGES, positionAfter, purgeKey, rangeOf, threadKey, versionPrefix } from './names.js';
import { pagesOf } from './pages.js';
import { changedThread, readThread, type ThreadRecord } from './thread-record.js';
import type { Entry, ThreadStore } from './thread-store.js';
import { versionsOf } from './versions.js';

/** What became of the purges that had been begun. */
export interface Resumed {
  purged: string[];
  unpurged: Array<{ threadId: string; reason: string }>;
}

/**
 * Destroys threads: their keys first, so that whatever copy of a message there is anywhere stays unreadable, then all that the
 * store has of them, and at last the bytes that removed values leave in it. That it is to happen is durable before anything is
 * destroyed, in the same change from which on nobody reads or writes the thread; each step may be done again, and a start goes
 * on with what a crash has interrupted.
 */
export class Purge {
  readonly #kms: Provider | undefined;
  readonly #store: ThreadStore;

  constructor(kms: Provider | undefined, store: ThreadStore) {
    this.#kms = kms;
    this.#store = store;
  }

  /** Complete and durable when it resolves. */
  async purge(record: ThreadRecord): Promise<void> {
    // Before it is begun: no start without the key service would ever get past it.
    if (record.keys !== undefined) this.#destroyer();
    await this.#begin(record);
    await this.#destroyKeys(record.threadId);
    await this.#removeAll(record.threadId);
    await this.#store.compact();
  }

  /**
   * Goes on with what a crash has interrupted. A thread whose keys the key service does not destroy for us stays unreadable and is
   * told; it holds up no other, and no start.
   */
  async resume(): Promise<Resumed> {
    const begun = await this.#store.range({ ...PURGES, limit: 1_000 });
    const resumed: Resumed = { purged: [], unpurged: [] };
    for (const { key } of begun) {
      const threadId = key.slice(PURGES.prefix.length);
      const fault = await this.#destroyKeys(threadId).then(
        () => undefined,
        (error) => asKmsError(error),
      );
      if (fault !== undefined) {
        resumed.unpurged.push({ threadId, reason: fault.message });
        continue;
      }
      await this.#removeAll(threadId);
      resumed.purged.push(threadId);
    }
    if (resumed.purged.length > 0) await this.#store.compact();
    return resumed;
  }

  async #begin(record: ThreadRecord): Promise<void> {
    const { threadId, bytes } = record;
    const meta = threadKey(threadId);
    const put = [
      { key: meta, value: changedThread(record, { isPurged: true }) },
      { key: purgeKey(threadId), value: new Uint8Array(0) },
    ];
    const [isBegun] = await this.#store.commit([{ expect: [{ key: meta, value: bytes }], put, remove: [] }]);
    if (!isBegun) throw new KmsError('CONFLICT', `thread ${threadId} was changed meanwhile`);
  }

  async #destroyKeys(threadId: string): Promise<void> {
    const [bytes] = await this.#store.get([threadKey(threadId)]);
    const record = bytes === undefined ? undefined : readThread(threadId, bytes);
    for (const keyId of record?.keys?.all ?? []) await destroyKey(this.#destroyer(), keyId);
  }

  async #removeAll(threadId: string): Promise<void> {
    await this.#removeMessages(threadId);
    // Another thread of this name owes nothing to a job of this one.
    const remove = [threadKey(threadId), mapKey(threadId), purgeKey(threadId), busyKey(threadId)];
    await this.#store.commit([{ expect: [], put: [], remove }]);
  }

  #destroyer(): Provider {
    if (this.#kms === undefined) throw new KmsError('UNSUPPORTED', 'a thread with a key is purged with its key service only');
    return this.#kms;
  }

  async #removeMessages(threadId: string): Promise<void> {
    const prefix = messagePrefix(threadId);
    for await (const page of pagesOf(this.#store, rangeOf(prefix))) {
      const own = page.filter(({ key }) => positionAfter(prefix, key) !== undefined);
      // Versions first: without its message nobody would find them again.
      for (const entry of own) await this.#removeVersions(threadId, entry);
      await this.#remove(own.flatMap(({ key }) => [key, backupKey(key)]));
    }
  }

  async #remove(keys: readonly string[]): Promise<void> {
    if (keys.length > 0) await this.#store.commit([{ expect: [], put: [], remove: keys }]);
  }

  /** With what jobs keep of them, also where they were deleted since. */
  async #removeVersions(threadId: string, { value }: Entry): Promise<void> {
    const messageId = idOf(value);
    if (messageId === undefined) return;
    for await (const page of versionsOf(this.#store, threadId, messageId)) await this.#remove(page.map(({ key }) => key));
    for await (const page of backupsBelow(this.#store, versionPrefix(messageId))) {
      await this.#remove(page.filter(({ backup }) => backup.threadId === threadId).map(({ key }) => key));
    }
  }
}

function idOf(value: Uint8Array): string | undefined {
  try {
    const { id } = JSON.parse(Buffer.from(value).toString('utf8')) as { id?: unknown };
    return typeof id === 'string' && /^[\x20-\x7e]{1,256}$/.test(id) ? id : undefined;
  } catch {
    return undefined;
  }
}
