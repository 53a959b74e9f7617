import { asKmsError, KmsError } from '../errors.js';
import type { Provider } from '../provider.js';
import type { Compaction } from './compaction.js';
import { busyKey, JobBook, jobKey } from './jobs/job-book.js';
import { destroyKey } from './key-ends.js';
import {
  backupKey,
  expiryKey,
  mapKey,
  messageIdOf,
  messagePrefix,
  type Position,
  PURGES,
  positionAfter,
  purgeKey,
  rangeOf,
  threadKey,
  VERSION,
} from './names.js';
import { pagesOf } from './pages.js';
import { changedThread, readThread, type ThreadRecord } from './thread-record.js';
import type { Entry, ThreadStore } from './thread-store.js';
import { versionsOf } from './versions.js';

/** What the mark of a purge says. */
const BEGUN = new Uint8Array(0);

/** What became of the purges that had been begun. */
export interface Resumed {
  purged: string[];
  unpurged: Array<{ threadId: string; reason: string }>;
}

/**
 * Destroys threads: their keys first, so that whatever copy of a message there is anywhere stays unreadable, then all that the
 * store has of them, and at last the bytes that removed values leave in it. That it is to happen is durable before anything is
 * destroyed, in the same change from which on nobody reads or writes the thread; each step may be done again, and a start goes
 * on with what a crash has interrupted. Each removal expects the purge to be under way: of two who go on with one, the slower
 * must not remove what a new thread of the name has.
 */
export class Purge {
  readonly #kms: Provider | undefined;
  readonly #store: ThreadStore;
  readonly #compaction: Compaction;

  constructor(kms: Provider | undefined, store: ThreadStore, compaction: Compaction) {
    this.#kms = kms;
    this.#store = store;
    this.#compaction = compaction;
  }

  /** Complete and durable when it resolves. */
  async purge(record: ThreadRecord): Promise<void> {
    // Before it is begun: no start without the key service would ever get past it.
    if (record.keys !== undefined) this.#destroyer();
    await this.#begin(record);
    await this.#destroyKeys(record.threadId);
    await this.#removeAll(record.threadId);
    await this.#compaction.settle();
  }

  /**
   * Goes on with what a crash has interrupted. A thread whose keys the key service does not destroy for us stays unreadable and is
   * told; it holds up no other, and no start. The store is to be compacted afterwards.
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
    return resumed;
  }

  async #begin(record: ThreadRecord): Promise<void> {
    const { threadId, bytes } = record;
    const meta = threadKey(threadId);
    const put = [
      { key: meta, value: changedThread(record, { isPurged: true }) },
      { key: purgeKey(threadId), value: BEGUN },
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
    // Without its job nobody writes a mark or a backup any more; who has one of these under way finds that its message is gone.
    await this.#removeJobs(threadId);
    await this.#removeBackups(threadId);
    // Another thread of this name owes nothing to a job of this one.
    const remove = [threadKey(threadId), mapKey(threadId), purgeKey(threadId), busyKey(threadId)];
    await this.#commit(threadId, remove, [this.#compaction.owed()]);
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
      await this.#commit(
        threadId,
        own.map(({ key }) => key),
      );
    }
  }

  async #removeVersions(threadId: string, { key, value }: Entry): Promise<void> {
    // What is damaged may have versions, too: those of the id that its place has.
    const messageId = idOf(value) ?? messageIdOf(positionAfter(messagePrefix(threadId), key) as Position);
    for await (const page of versionsOf(this.#store, threadId, messageId)) {
      await this.#commit(
        threadId,
        page.map(({ key }) => key),
      );
    }
  }

  /** With the marks of when their backups go: the keys that these name are destroyed. */
  async #removeJobs(threadId: string): Promise<void> {
    for await (const page of new JobBook(this.#store).pages()) {
      const own = page.filter(({ job }) => job.threadId === threadId);
      await this.#commit(
        threadId,
        own.flatMap(({ job: { jobId } }) => [jobKey(jobId), expiryKey(jobId)]),
      );
    }
  }

  /** What jobs have kept, also of messages and versions that were removed since. */
  async #removeBackups(threadId: string): Promise<void> {
    // The key of a version does not say whose it is.
    await this.#removeBelow(threadId, backupKey(VERSION), (value) => threadOf(value) === threadId);
    await this.#removeBelow(threadId, backupKey(messagePrefix(threadId)), () => true);
  }

  async #removeBelow(threadId: string, prefix: string, isOwn: (value: Uint8Array) => boolean): Promise<void> {
    for await (const page of pagesOf(this.#store, rangeOf(prefix))) {
      await this.#commit(
        threadId,
        page.filter(({ value }) => isOwn(value)).map(({ key }) => key),
      );
    }
  }

  async #commit(threadId: string, remove: readonly string[], put: readonly Entry[] = []): Promise<void> {
    if (remove.length === 0) return;
    await this.#store.commit([{ expect: [{ key: purgeKey(threadId), value: BEGUN }], put, remove }]);
  }
}

/** What a job of ours has kept names its thread, and so does what the original has. */
function threadOf(value: Uint8Array): unknown {
  try {
    const { threadId, thread } = JSON.parse(Buffer.from(value).toString('utf8')) as { threadId?: unknown; thread?: unknown };
    return threadId ?? thread;
  } catch {
    return undefined;
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
