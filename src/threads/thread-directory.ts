import { randomBytes } from 'node:crypto';
import { KmsError } from '../errors.js';
import { THREAD_ID_PATTERN } from '../limits.js';
import type { Clock } from './clock.js';
import type { KeyProvision } from './key-provision.js';
import { keyBeyond, threadKey, threadOfKey } from './names.js';
import type { NewThread, Thread, ThreadPage, ThreadQuery } from './thread.js';
import { readThread, type ThreadRecord } from './thread-record.js';
import type { ThreadStore } from './thread-store.js';

const MAX_TITLE = 1_024;
const MAX_LIMIT = 1_000;
const DEFAULT_LIMIT = 100;
/** Threads' records kept parsed, of about a KiB each. */
const MAX_RECORDS = 4_096;

/** Such a name would stand among the messages of the thread that it begins with, and break the listing of these. */
const AMONG_MESSAGES = /:msg(:|$)/;

export function checkThreadId(threadId: unknown): string {
  if (typeof threadId !== 'string' || !THREAD_ID_PATTERN.test(threadId) || AMONG_MESSAGES.test(threadId)) {
    throw new KmsError('INVALID_ARGUMENT', 'thread id');
  }
  return threadId;
}

function describe({ threadId, title, createdAt, keys }: ThreadRecord): Thread {
  return { threadId, title: title ?? null, createdAt, keyId: keys?.keyId ?? null };
}

/** Which threads there are, and their records. */
export class ThreadDirectory {
  readonly #store: ThreadStore;
  readonly #provision: KeyProvision;
  readonly #clock: Clock;
  readonly #records = new Map<string, ThreadRecord>();

  constructor(store: ThreadStore, provision: KeyProvision, clock: Clock) {
    this.#store = store;
    this.#provision = provision;
    this.#clock = clock;
  }

  async create(thread: NewThread, mayExist: boolean): Promise<Thread> {
    const threadId = checkThreadId(thread.threadId ?? `t_${randomBytes(16).toString('hex')}`);
    const { title } = thread;
    if (title !== undefined && (typeof title !== 'string' || title.length > MAX_TITLE)) {
      throw new KmsError('INVALID_ARGUMENT', `a title is text of up to ${MAX_TITLE} characters`);
    }
    const isMade = await this.#provision.make(threadId, this.#clock.next().ts, title);
    if (!isMade && !mayExist) throw new KmsError('CONFLICT', `thread ${threadId} is there already`);
    return describe(await this.record(threadId));
  }

  async find(threadId: string): Promise<Thread | undefined> {
    const record = await this.look(threadId);
    return record && describe(record);
  }

  /** Those that are not being purged, in the order of their keys. */
  async page({ limit = DEFAULT_LIMIT, cursor }: ThreadQuery): Promise<ThreadPage> {
    if (!Number.isInteger(limit) || limit < 1 || limit > MAX_LIMIT)
      throw new KmsError('INVALID_ARGUMENT', `limit: 1 to ${MAX_LIMIT}`);
    const page: ThreadPage = { threads: [], damaged: [], next: null };
    let last = '';
    for await (const threadId of this.ids(cursor)) {
      if (page.threads.length + page.damaged.length === limit) return { ...page, next: last };
      last = threadId;
      try {
        const thread = await this.find(threadId);
        if (thread !== undefined) page.threads.push(thread);
      } catch (error) {
        if (!(error instanceof KmsError) || error.code !== 'STORE_UNAVAILABLE') throw error;
        page.damaged.push(threadId);
      }
    }
    return page;
  }

  /** Every thread, after the one of that id. */
  async *ids(after?: string): AsyncGenerator<string> {
    for (let from = after === undefined ? 'thread:' : `${threadKey(checkThreadId(after))} `; ; ) {
      const [entry] = await this.#store.range({ from, to: 'thread;', limit: 1 });
      if (entry === undefined) return;
      const threadId = threadOfKey(entry.key);
      if (threadId !== undefined && THREAD_ID_PATTERN.test(threadId)) yield threadId;
      from = keyBeyond(entry.key);
    }
  }

  async look(threadId: string): Promise<ThreadRecord | undefined> {
    const [bytes] = await this.#store.get([threadKey(checkThreadId(threadId))]);
    const record = bytes === undefined ? undefined : this.#parsed(threadId, bytes);
    return record?.isPurged ? undefined : record;
  }

  /** What was read last is not parsed again while its bytes are the same. */
  #parsed(threadId: string, bytes: Uint8Array): ThreadRecord {
    const known = this.#records.get(threadId);
    if (known !== undefined && Buffer.compare(known.bytes, bytes) === 0) return known;
    const record = readThread(threadId, bytes);
    if (this.#records.size >= MAX_RECORDS) this.#records.clear();
    this.#records.set(threadId, record);
    return record;
  }

  /** Throws NOT_FOUND where there is no such thread. */
  async record(threadId: string): Promise<ThreadRecord> {
    const record = await this.look(threadId);
    if (record === undefined) throw new KmsError('NOT_FOUND', `thread ${threadId}`);
    return record;
  }
}
