import { KmsError } from '../errors.js';
import type { Bodies } from './bodies.js';
import type { Clock } from './clock.js';
import type { FieldPolicy } from './field-policy.js';
import { type Json, plainJson } from './json.js';
import { changedMessage, isForeign, type MessageRecord, messageBytes, readMessage } from './message-record.js';
import {
  checkMessageId,
  messageIdOf,
  messageKey,
  messagePrefix,
  type Position,
  positionAfter,
  positionOfMessage,
  rangeOf,
  threadKey,
  versionKey,
} from './names.js';
import type { Message, MessagePage, MessageQuery, NewMessage } from './thread.js';
import type { ThreadDirectory } from './thread-directory.js';
import { type ThreadRecord, timeOf } from './thread-record.js';
import type { Entry, ThreadStore } from './thread-store.js';
import { versionsOf } from './versions.js';

const MAX_LIMIT = 1_000;
const DEFAULT_LIMIT = 100;
const MAX_AUTHOR = 256;
/** A change that loses this often to others under way is told so. */
const MAX_TRIES = 64;

/** An entry of the store that may be a message, and its place. */
interface Found extends Entry {
  position: Position;
}

/**
 * Writes and reads messages. Each change expects to find the thread's record and the message as they were read: what was sealed
 * under a key that is no longer the thread's, or from a body that somebody has changed since, is sealed anew. The store makes a
 * change as a whole or not at all, and has it when it says so: there is no state between.
 */
export class Messages {
  readonly #store: ThreadStore;
  readonly #directory: ThreadDirectory;
  readonly #bodies: Bodies;
  readonly #policy: FieldPolicy;
  readonly #clock: Clock;

  constructor(store: ThreadStore, directory: ThreadDirectory, bodies: Bodies, policy: FieldPolicy, clock: Clock) {
    this.#store = store;
    this.#directory = directory;
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
      const [isMade] = await this.#store.commit([{ expect, put: [{ key, value: messageBytes(record) }], remove: [] }]);
      return isMade ? told(record, given) : undefined;
    });
  }

  async read(threadId: string, messageId: string): Promise<Message | undefined> {
    checkMessageId(messageId);
    const found = await this.#find(threadId, messageId);
    return found && (await this.#opened(threadId, [found]))[0];
  }

  async list(threadId: string, query: MessageQuery): Promise<MessagePage> {
    const { limit = DEFAULT_LIMIT, reverse = false, cursor } = query;
    if (!Number.isInteger(limit) || limit < 1 || limit > MAX_LIMIT) {
      throw new KmsError('INVALID_ARGUMENT', `limit: 1 to ${MAX_LIMIT}`);
    }
    const prefix = messagePrefix(threadId);
    const range = rangeOf(prefix);
    if (cursor !== undefined) {
      if (positionAfter('', cursor) === undefined) throw new KmsError('INVALID_ARGUMENT', 'cursor');
      if (reverse) range.to = prefix + cursor;
      else range.from = `${prefix}${cursor} `;
    }
    const entries = await this.#store.range({ ...range, limit, reverse });
    const messages = await this.#opened(
      threadId,
      entries.flatMap((entry) => foundAt(prefix, entry)),
    );
    const last = entries.length === limit ? entries.at(-1) : undefined;
    return { messages, next: last === undefined ? null : last.key.slice(prefix.length) };
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
        { key: found.key, value: changedMessage(found.value, edited) },
        { key: version, value: found.value },
      ];
      // Another process may have edited a message of this id, of another thread, in the same instant.
      const expect = [threadAsRead(thread), { key: found.key, value: found.value }, { key: version, value: undefined }];
      const [isMade] = await this.#store.commit([{ expect, put, remove: [] }]);
      return isMade ? told(edited, given) : undefined;
    });
  }

  /** What a message was before each edit, the oldest first. */
  async versions(threadId: string, messageId: string): Promise<Message[]> {
    const { record } = await this.#existing(threadId, checkMessageId(messageId));
    const versions = await this.#versionsOf(threadId, messageId);
    return this.#opened(
      threadId,
      versions.map((entry) => ({ ...entry, position: record.position })),
    );
  }

  /** Its body and versions go; that it was stays. What the disk has of them is under the thread's key until that is destroyed. */
  async delete(threadId: string, messageId: string): Promise<void> {
    checkMessageId(messageId);
    await this.#tried(async () => {
      const found = await this.#find(threadId, messageId);
      const read = found && recordOf(threadId, found);
      if (found === undefined || read === undefined) throw new KmsError('NOT_FOUND', `message ${messageId}`);
      // What is damaged goes as well: nothing else would ever let a job come to its end.
      const record = read instanceof KmsError ? { ...blank(threadId, found), messageId } : read;
      if (record.isDeleted) throw new KmsError('NOT_FOUND', `message ${messageId}`);
      const isOurs = read instanceof KmsError || !isForeign(record);
      const sealing = { isForeign: !isOurs, at: [], policy: [] };
      const gone = changedMessage(found.value, { ...record, body: null, sealing, isDeleted: true });
      const remove = (await this.#versionsOf(threadId, messageId)).map(({ key }) => key);
      const expect = [{ key: found.key, value: found.value }];
      const [isMade] = await this.#store.commit([{ expect, put: [{ key: found.key, value: gone }], remove }]);
      return isMade || undefined;
    });
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

  async #find(threadId: string, messageId: string): Promise<Found | undefined> {
    const position = positionOfMessage(messageId);
    if (position !== undefined) {
      const key = messageKey(threadId, position);
      const [value] = await this.#store.get([key]);
      // What is damaged tells no id, and is listed by that of its place.
      if (value !== undefined && (messageIdIn(value) ?? messageId) === messageId) return { key, value, position };
    }
    return this.#search(threadId, messageId);
  }

  /** A message that the original wrote, or that was brought over with an id of another kind: its id does not tell its place. */
  async #search(threadId: string, messageId: string): Promise<Found | undefined> {
    const prefix = messagePrefix(threadId);
    const { from, to } = rangeOf(prefix);
    for (let at = from; ; ) {
      const entries = await this.#store.range({ from: at, to, limit: MAX_LIMIT });
      for (const entry of entries) {
        const [found] = messageIdIn(entry.value) === messageId ? foundAt(prefix, entry) : [];
        if (found !== undefined) return found;
      }
      const last = entries.at(-1);
      if (last === undefined || entries.length < MAX_LIMIT) return undefined;
      at = `${last.key} `;
    }
  }

  async #existing(threadId: string, messageId: string): Promise<{ found: Found; record: MessageRecord }> {
    const found = await this.#find(threadId, messageId);
    const record = found && recordOf(threadId, found);
    if (record instanceof KmsError) throw record;
    if (found === undefined || record === undefined || record.isDeleted) {
      throw new KmsError('NOT_FOUND', `message ${messageId}`);
    }
    return { found, record };
  }

  async #versionsOf(threadId: string, messageId: string): Promise<Entry[]> {
    const versions: Entry[] = [];
    for await (const page of versionsOf(this.#store, threadId, messageId)) versions.push(...page);
    return versions;
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
      const before = found[i] as Found;
      return value === undefined || Buffer.compare(value, before.value) === 0 ? [] : [{ i, found: { ...before, value } }];
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
    const read = found.map((entry) => recordOf(thread.threadId, entry));
    const records = read.filter((record): record is MessageRecord => !(record instanceof KmsError) && !record.isDeleted);
    const bodies = await this.#bodies.open(thread, records);
    const bodyOf = new Map(records.map((record, i) => [record, bodies[i] as Json | KmsError]));
    return read.map((record, i) => {
      if (record instanceof KmsError) return unreadable(thread.threadId, found[i] as Found, record);
      const body = bodyOf.get(record) ?? null;
      return body instanceof KmsError ? { ...told(record, null), error: body } : told(record, body);
    });
  }
}

/** A key that is away, or not the thread's any more, because what was under it has another one; or a format that has gone. */
const OUTDATED: ReadonlySet<string> = new Set(['KEY_DISABLED', 'KEY_DESTROYED', 'AUTHENTICATION_FAILED']);

function threadAsRead({ threadId, bytes }: ThreadRecord) {
  return { key: threadKey(threadId), value: bytes };
}

function foundAt(prefix: string, entry: Entry): Found[] {
  const position = positionAfter(prefix, entry.key);
  return position === undefined ? [] : [{ ...entry, position }];
}

function recordOf(threadId: string, { value, position, key }: Found): MessageRecord | KmsError {
  try {
    return readMessage(threadId, position, value);
  } catch (cause) {
    return new KmsError('STORE_UNAVAILABLE', `the message under ${key} is damaged`, { cause });
  }
}

/** Of bytes that may be anything. */
function messageIdIn(value: Uint8Array): string | undefined {
  try {
    const id = (JSON.parse(Buffer.from(value).toString('utf8')) as { id?: unknown } | null)?.id;
    return typeof id === 'string' ? id : undefined;
  } catch {
    return undefined;
  }
}

/** All that is known of a message that cannot be read at all. */
function blank(threadId: string, { position, value }: Found): MessageRecord {
  const known = { messageId: messageIdIn(value) ?? messageIdOf(position), threadId, author: undefined, position };
  return { ...known, body: null, sealing: undefined, editedTs: undefined, isDeleted: false };
}

function unreadable(threadId: string, found: Found, error: KmsError): Message {
  return { ...told(blank(threadId, found), null), error };
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
