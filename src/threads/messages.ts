import { KmsError } from '../errors.js';
import { MAX_MESSAGE_BODY_BYTES, MAX_PAGE_BYTES, MAX_STORED_VALUE_BYTES } from '../limits.js';
import type { Bodies } from './bodies.js';
import type { Clock } from './clock.js';
import type { FieldPolicy } from './field-policy.js';
import { type Json, plainJson } from './json.js';
import { blankOf, type Found, foundAt, type MessageIndex } from './message-index.js';
import { changedMessage, isForeign, type MessageRecord, messageBytes } from './message-record.js';
import {
  checkMessageId,
  messageIdOf,
  messageKey,
  messagePrefix,
  positionAfter,
  rangeOf,
  threadKey,
  versionKey,
  versionPrefix,
} from './names.js';
import { beyond, isFull } from './pages.js';
import type { Message, MessagePage, MessageQuery, NewMessage, VersionPage } from './thread.js';
import type { ThreadDirectory } from './thread-directory.js';
import { type ThreadRecord, timeOf } from './thread-record.js';
import type { Entry, ThreadStore } from './thread-store.js';
import { ownVersions, versionsOf } from './versions.js';

const MAX_LIMIT = 1_000;
const DEFAULT_LIMIT = 100;
const MAX_AUTHOR = 256;
/** A change that loses this often to others under way is told so. */
const MAX_TRIES = 64;

export interface MessagesOptions {
  store: ThreadStore;
  directory: ThreadDirectory;
  index: MessageIndex;
  bodies: Bodies;
  policy: FieldPolicy;
  clock: Clock;
}

/**
 * Writes and reads messages. Each change expects to find the thread's record and the message as they were read: what was sealed
 * under a key that is no longer the thread's, or from a body that somebody has changed since, is sealed anew. The store makes a
 * change as a whole or not at all, and has it when it says so: there is no state between.
 */
export class Messages {
  readonly #store: ThreadStore;
  readonly #directory: ThreadDirectory;
  readonly #index: MessageIndex;
  readonly #bodies: Bodies;
  readonly #policy: FieldPolicy;
  readonly #clock: Clock;

  constructor({ store, directory, index, bodies, policy, clock }: MessagesOptions) {
    this.#store = store;
    this.#directory = directory;
    this.#index = index;
    this.#bodies = bodies;
    this.#policy = policy;
    this.#clock = clock;
  }

  async append(threadId: string, { body, author }: NewMessage): Promise<Message> {
    const given = plainJson(body);
    if (author !== undefined && (typeof author !== 'string' || author.length > MAX_AUTHOR)) {
      throw new KmsError('INVALID_ARGUMENT', `an author is text of up to ${MAX_AUTHOR} characters`);
    }
    return this.#tried(async () => {
      const thread = await this.#directory.record(threadId);
      const position = this.#clock.next();
      const messageId = messageIdOf(position);
      const record = await this.#sealed(thread, {
        messageId,
        threadId,
        author,
        position,
        body: given,
        sealing: { isForeign: false, at: [], policy: [] },
        editedTs: undefined,
        isDeleted: false,
      });
      const key = messageKey(threadId, position);
      const expect = [threadAsRead(thread), { key, value: undefined }];
      const put = [{ key, value: storable(messageBytes(record), given) }];
      const [isMade] = await this.#store.commit([{ expect, put, remove: [] }]);
      return isMade ? told(record, given) : undefined;
    });
  }

  async read(threadId: string, messageId: string): Promise<Message | undefined> {
    checkMessageId(messageId);
    const found = await this.#index.find(threadId, messageId);
    return found && (await this.#opened(threadId, [found]))[0];
  }

  async list(threadId: string, query: MessageQuery): Promise<MessagePage> {
    const prefix = messagePrefix(threadId);
    const { entries, next } = await this.#page(prefix, query);
    const messages: Found[] = [];
    for (const entry of entries) {
      const position = positionAfter(prefix, entry.key);
      if (position === undefined) continue;
      const found = foundAt(threadId, position, entry);
      if (!(await this.#index.isReplaced(threadId, found.record))) messages.push(found);
    }
    return { messages: await this.#opened(threadId, messages), next };
  }

  /** What stands below a prefix, bounded by its number and by its bytes, and where to go on. */
  async #page(
    prefix: string,
    { limit = DEFAULT_LIMIT, reverse = false, cursor }: MessageQuery,
  ): Promise<{ entries: Entry[]; next: string | null }> {
    if (!Number.isInteger(limit) || limit < 1 || limit > MAX_LIMIT) {
      throw new KmsError('INVALID_ARGUMENT', `limit: 1 to ${MAX_LIMIT}`);
    }
    if (cursor !== undefined && positionAfter('', cursor) === undefined) throw new KmsError('INVALID_ARGUMENT', 'cursor');
    const all = { ...rangeOf(prefix), limit, bytes: MAX_PAGE_BYTES, reverse };
    const range = cursor === undefined ? all : { ...all, ...beyond(all, prefix + cursor) };
    const entries = await this.#store.range(range);
    const last = isFull(entries, range) ? entries.at(-1) : undefined;
    return { entries, next: last === undefined ? null : last.key.slice(prefix.length) };
  }

  /** What was before stays as a version. */
  async edit(threadId: string, messageId: string, body: unknown): Promise<Message> {
    checkMessageId(messageId);
    const given = plainJson(body);
    return this.#tried(async () => {
      const thread = await this.#directory.record(threadId);
      const { found, record } = await this.#existing(threadId, messageId);
      const { ts, seq } = this.#clock.next();
      const edited = await this.#sealed(thread, { ...record, body: given, editedTs: ts });
      const version = versionKey(messageId, { ts, seq });
      const put = [
        { key: found.key, value: storable(changedMessage(found.value, edited), given) },
        { key: version, value: found.value },
      ];
      // Another process may have edited a message of this id, of another thread, in the same instant.
      const expect = [threadAsRead(thread), { key: found.key, value: found.value }, { key: version, value: undefined }];
      const [isMade] = await this.#store.commit([{ expect, put, remove: [] }]);
      return isMade ? told(edited, given) : undefined;
    });
  }

  /** What a message was before each edit. */
  async versions(threadId: string, messageId: string, query: MessageQuery): Promise<VersionPage> {
    const { record } = await this.#existing(threadId, checkMessageId(messageId));
    const { position } = record;
    const { entries, next } = await this.#page(versionPrefix(messageId), query);
    // Where the original has put a message, it has put the same as a version.
    const itself = isForeign(record) ? versionKey(messageId, position) : undefined;
    const before = ownVersions(threadId, messageId, entries).filter(({ key }) => key !== itself);
    const versions = await this.#opened(
      threadId,
      before.map((entry) => foundAt(threadId, position, entry)),
    );
    return { versions, next };
  }

  /** Its body and versions go; that it was stays. What the disk has of them is under the thread's key until that is destroyed. */
  async delete(threadId: string, messageId: string): Promise<void> {
    checkMessageId(messageId);
    await this.#tried(async () => {
      const found = await this.#index.find(threadId, messageId);
      if (found === undefined) throw new KmsError('NOT_FOUND', `message ${messageId}`);
      // What is damaged goes as well: nothing else would ever let a job come to its end.
      const isDamaged = found.record instanceof KmsError;
      const record = found.record instanceof KmsError ? { ...blankOf(threadId, found), messageId } : found.record;
      if (record.isDeleted) throw new KmsError('NOT_FOUND', `message ${messageId}`);
      const sealing = { isForeign: !isDamaged && isForeign(record), at: [], policy: [] };
      const gone = changedMessage(found.value, { ...record, body: null, sealing, isDeleted: true });
      const remove = await this.#versionKeys(threadId, { ...record, sealing });
      const expect = [{ key: found.key, value: found.value }];
      const [isMade] = await this.#store.commit([{ expect, put: [{ key: found.key, value: gone }], remove }]);
      return isMade || undefined;
    });
  }

  /** Also of those that stand among the messages, where the original wrote it anew. */
  async #versionKeys(threadId: string, record: MessageRecord): Promise<string[]> {
    const { messageId, position } = record;
    const keys: string[] = [];
    for await (const page of versionsOf(this.#store, threadId, messageId)) {
      for (const { key } of page) {
        keys.push(key);
        if (!isForeign(record) || key === versionKey(messageId, position)) continue;
        const replaced = await this.#index.named(threadId, messageId, key);
        if (replaced !== undefined) keys.push(replaced.key);
      }
    }
    return keys;
  }

  async #sealed(thread: ThreadRecord, record: MessageRecord): Promise<MessageRecord> {
    // The body is changed while it is sealed, and the caller's, or a second try, needs it as it was.
    const own = structuredClone(record.body);
    const { messageId } = record;
    const [sealed] = await this.#bodies.seal(thread, this.#policy, [{ messageId, body: own, isForeign: isForeign(record) }]);
    return { ...record, body: sealed?.body ?? null, sealing: sealed?.sealing };
  }

  async #tried<T>(change: () => Promise<T | undefined>): Promise<T> {
    for (let tries = 0; tries < MAX_TRIES; tries += 1) {
      const done = await change();
      if (done !== undefined) return done;
    }
    throw new KmsError('CONFLICT', 'others change the same message all the time');
  }

  async #existing(threadId: string, messageId: string): Promise<{ found: Found; record: MessageRecord }> {
    const found = await this.#index.find(threadId, messageId);
    if (found?.record instanceof KmsError) throw found.record;
    if (found === undefined || found.record.isDeleted) throw new KmsError('NOT_FOUND', `message ${messageId}`);
    return { found, record: found.record };
  }

  async #opened(threadId: string, found: readonly Found[]): Promise<Message[]> {
    // The thread's record is read after its messages: it knows the keys of all that were there before.
    const thread = await this.#directory.record(threadId);
    const messages = await this.#openedOf(thread, found);
    const stale = messages.flatMap(({ error }, i) => (error !== null && OUTDATED.has(error.code) ? [i] : []));
    if (stale.length === 0) return messages;
    // Perhaps their key went meanwhile, because they had been moved to another one.
    const again = await this.#store.get(stale.map((i) => (found[i] as Found).key));
    const moved = stale.flatMap((i, nth) => {
      const value = again[nth];
      const { key, value: before, position } = found[i] as Found;
      if (value === undefined || Buffer.compare(value, before) === 0) return [];
      return [{ i, found: foundAt(threadId, position, { key, value }) }];
    });
    const anew = await this.#openedOf(
      await this.#directory.record(threadId),
      moved.map((one) => one.found),
    );
    moved.forEach(({ i }, nth) => {
      messages[i] = anew[nth] as Message;
    });
    return messages;
  }

  async #openedOf(thread: ThreadRecord, found: readonly Found[]): Promise<Message[]> {
    const records = found
      .map(({ record }) => record)
      .filter((record): record is MessageRecord => !(record instanceof KmsError) && !record.isDeleted);
    const bodies = await this.#bodies.open(thread, records);
    const bodyOf = new Map(records.map((record, i) => [record, bodies[i] as Json | KmsError]));
    return found.map((one) => {
      const { record } = one;
      if (record instanceof KmsError) return { ...told(blankOf(thread.threadId, one), null), error: record };
      const body = bodyOf.get(record) ?? null;
      return body instanceof KmsError ? { ...told(record, null), error: body } : told(record, body);
    });
  }
}

/** A key that is away, or not the thread's any more, because what was under it has another one; or a format that has gone. */
const OUTDATED: ReadonlySet<string> = new Set(['KEY_DISABLED', 'KEY_DESTROYED', 'AUTHENTICATION_FAILED']);

/**
 * What a job may do to a message later must fit into the store as well: sealed as a whole, a body of so much text does. What is
 * stored is never shorter than that text. Throws TOO_LARGE.
 */
function storable(value: Uint8Array, body: Json): Uint8Array {
  if (value.length > MAX_MESSAGE_BODY_BYTES && Buffer.byteLength(JSON.stringify(body)) > MAX_MESSAGE_BODY_BYTES) {
    throw new KmsError('TOO_LARGE', `the text of a body is up to ${MAX_MESSAGE_BODY_BYTES} bytes`);
  }
  if (value.length > MAX_STORED_VALUE_BYTES) {
    throw new KmsError('TOO_LARGE', `encrypted value by value, the message is more than ${MAX_STORED_VALUE_BYTES} bytes`);
  }
  return value;
}

function threadAsRead({ threadId, bytes }: ThreadRecord) {
  return { key: threadKey(threadId), value: bytes };
}

function told({ messageId, threadId, author, position, editedTs, isDeleted }: MessageRecord, body: Json): Message {
  return {
    messageId,
    threadId,
    author: author ?? null,
    ...position,
    createdAt: timeOf(position.ts),
    editedAt: editedTs === undefined ? null : timeOf(editedTs),
    isDeleted,
    body,
    error: null,
  };
}
