import { KmsError } from '../errors.js';
import { isForeign, type MessageRecord, readMessage } from './message-record.js';
import {
  messageIdOf,
  messageKey,
  messagePrefix,
  type Position,
  positionAfter,
  positionOfMessage,
  rangeOf,
  versionKey,
  versionPrefix,
} from './names.js';
import { pagesOf } from './pages.js';
import type { ThreadDirectory } from './thread-directory.js';
import type { Entry, ThreadStore } from './thread-store.js';
import { versionsOf } from './versions.js';

/** Places that an id of the original's may lead to, looked at in one go: one, unless the message was edited. */
const PLACES = 16;

/** What stands at a message's place, read: or why that cannot be. */
export interface Found extends Entry {
  position: Position;
  record: MessageRecord | KmsError;
}

/** `position` is the message's, also for a version of it. */
export function foundAt(threadId: string, position: Position, { key, value }: Entry): Found {
  try {
    return { key, value, position, record: readMessage(threadId, position, value) };
  } catch (cause) {
    const record = new KmsError('STORE_UNAVAILABLE', `the message under ${key} is damaged`, { cause });
    return { key, value, position, record };
  }
}

/** All that is known of a message that cannot be read at all. */
export function blankOf(threadId: string, { position, value }: Found): MessageRecord {
  const known = { messageId: messageIdIn(value) ?? messageIdOf(position), threadId, author: undefined, position };
  return { ...known, body: null, sealing: undefined, editedTs: undefined, isDeleted: false };
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

/**
 * Finds messages by their ids. Ours name their places. The original makes ids before it knows the place, and writes a message anew,
 * at a later place and under the same id, whenever it is edited or deleted: each time with a version of the same place. So the
 * versions are the index of its messages, and the newest place is the message.
 */
export class MessageIndex {
  readonly #store: ThreadStore;
  readonly #directory: ThreadDirectory;

  constructor(store: ThreadStore, directory: ThreadDirectory) {
    this.#store = store;
    this.#directory = directory;
  }

  async find(threadId: string, messageId: string): Promise<Found | undefined> {
    const position = positionOfMessage(messageId);
    if (position !== undefined) {
      const found = await this.#at(threadId, position);
      // What is damaged tells no id, and is listed by that of its place.
      if (found !== undefined && (messageIdIn(found.value) ?? messageId) === messageId) return found;
    }
    const thread = await this.#directory.look(threadId);
    if (thread === undefined || thread.isOwn || (thread.isMigrated && position !== undefined)) return undefined;
    return (await this.#indexed(threadId, messageId)) ?? this.#search(threadId, messageId);
  }

  /** Whether the original wrote the message anew after this: then it is a version, although it stands among the messages. */
  async isReplaced(threadId: string, record: MessageRecord | KmsError): Promise<boolean> {
    if (record instanceof KmsError || !isForeign(record)) return false;
    const { messageId, position } = record;
    const after = { from: `${versionKey(messageId, position)} `, limit: 1 };
    for await (const page of versionsOf(this.#store, threadId, messageId, after)) {
      const [next] = page;
      // A version that we have made of it stands for no place of a message.
      if (next !== undefined) return (await this.named(threadId, messageId, next.key)) !== undefined;
    }
    return false;
  }

  /** The message that stands at the place of a version. */
  async named(threadId: string, messageId: string, version: string): Promise<Found | undefined> {
    const position = positionAfter(versionPrefix(messageId), version);
    const found = position && (await this.#at(threadId, position));
    return found !== undefined && messageIdIn(found.value) === messageId ? found : undefined;
  }

  async #at(threadId: string, position: Position): Promise<Found | undefined> {
    const key = messageKey(threadId, position);
    const [value] = await this.#store.get([key]);
    return value && foundAt(threadId, position, { key, value });
  }

  async #indexed(threadId: string, messageId: string): Promise<Found | undefined> {
    const range = { ...rangeOf(versionPrefix(messageId)), limit: PLACES, reverse: true };
    for await (const page of pagesOf(this.#store, range)) {
      for (const { key } of page) {
        const found = await this.named(threadId, messageId, key);
        if (found !== undefined) return found;
      }
    }
    return undefined;
  }

  /** For what has no version: all of the thread is read. */
  async #search(threadId: string, messageId: string): Promise<Found | undefined> {
    const prefix = messagePrefix(threadId);
    for await (const page of pagesOf(this.#store, rangeOf(prefix))) {
      const entry = page.find(({ key, value }) => positionAfter(prefix, key) !== undefined && messageIdIn(value) === messageId);
      if (entry !== undefined) return foundAt(threadId, positionAfter(prefix, entry.key) as Position, entry);
    }
    return undefined;
  }
}
