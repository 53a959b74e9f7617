import { setImmediate as nextTurn } from 'node:timers/promises';
import { MAX_PAGE_BYTES } from '../../limits.js';
import type { MessageIndex } from '../message-index.js';
import { type MessageRecord, readMessage } from '../message-record.js';
import { messageOfVersion, messagePrefix, type Position, positionAfter, rangeOf, versionPrefix } from '../names.js';
import { isFull } from '../pages.js';
import type { Entry, ThreadStore } from '../thread-store.js';
import { ownVersions } from '../versions.js';

/** What a page reads of messages in one go, as a part of itself: those whose versions have filled it are read again. */
const PARTS = 4;

/** One stored form of a message: the message itself, or a version of it. `record` is undefined where it cannot be read. */
export interface Stored extends Entry {
  record: MessageRecord | undefined;
  /** Why not. */
  fault: string | undefined;
}

export interface Page {
  entries: Stored[];
  /** What to go on after; undefined at the end of the thread. */
  next: string | undefined;
}

/** Where a page ends: with a message, or among its versions. No key of either has a space before its end. */
interface Cursor {
  message: string;
  /** The last version that was taken, or the prefix of them all. */
  version: string | undefined;
}

function cursorOf(text: string): Cursor {
  const end = text.indexOf(' ');
  return end < 0 ? { message: text, version: undefined } : { message: text.slice(0, end), version: text.slice(end + 1) };
}

/** A page that is being filled, up to a number of entries and of bytes. */
class Filling {
  readonly entries: Stored[] = [];
  readonly #limit: number;
  #bytes = MAX_PAGE_BYTES;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get isFull(): boolean {
    return this.entries.length >= this.#limit || this.#bytes <= 0;
  }

  /** What there is room for. */
  get room(): { limit: number; bytes: number } {
    return { limit: this.#limit - this.entries.length, bytes: this.#bytes };
  }

  /** For a part of a page, so much of it. */
  get part(): { limit: number; bytes: number } {
    const { limit, bytes } = this.room;
    return { limit: Math.min(limit, Math.ceil(this.#limit / PARTS)), bytes: Math.min(bytes, MAX_PAGE_BYTES / PARTS) };
  }

  take(entry: Stored): void {
    this.entries.push(entry);
    this.#bytes -= entry.value.length;
  }
}

/**
 * Walks all that the store has of a thread's messages, page by page in the order of their keys, each with its versions. A page has
 * so many entries, or bytes, at most, wherever that is: a message may have more versions than anybody's memory holds.
 */
export class Entries {
  readonly #store: ThreadStore;
  readonly #index: MessageIndex;

  constructor(store: ThreadStore, index: MessageIndex) {
    this.#store = store;
    this.#index = index;
  }

  /** Up to `limit` entries, one at least, after where another page ended, '' for the beginning. */
  async page(threadId: string, after: string, limit: number): Promise<Page> {
    // A store in this process, and a key service beside it, may answer at once: a walk over a long thread would let nobody else in.
    await nextTurn();
    const page = new Filling(limit);
    const { message, version } = cursorOf(after);
    const within = version === undefined ? undefined : await this.#versions(page, threadId, message, version);
    const next = within ?? (await this.#messages(page, threadId, message));
    return { entries: page.entries, next };
  }

  /** Where it ended; undefined at the end of the thread. */
  async #messages(page: Filling, threadId: string, after: string): Promise<string | undefined> {
    const prefix = messagePrefix(threadId);
    const { from, to } = rangeOf(prefix);
    for (let last = after; ; ) {
      if (page.isFull) return last;
      const query = { from: last === '' ? from : `${last} `, to, ...page.part };
      const found = await this.#store.range(query);
      for (const { key, value } of found) {
        if (page.isFull) return last;
        last = key;
        const position = positionAfter(prefix, key);
        if (position === undefined) continue;
        const message = stored(threadId, position, { key, value });
        page.take(message);
        const within = await this.#versionsOf(page, threadId, message);
        if (within !== undefined) return within;
      }
      if (!isFull(found, query)) return undefined;
    }
  }

  async #versionsOf(page: Filling, threadId: string, { key, record }: Stored): Promise<string | undefined> {
    if (record === undefined || !mayHaveVersions(record)) return undefined;
    // Its versions are those of the message that it was written anew as.
    if (await this.#index.isReplaced(threadId, record)) return undefined;
    return this.#versions(page, threadId, key, versionPrefix(record.messageId));
  }

  /** Of one message, after one of its versions. Where it ended; undefined after the last. */
  async #versions(page: Filling, threadId: string, message: string, after: string): Promise<string | undefined> {
    // A version is sealed as the message that it was: at the message's place.
    const position = positionAfter(messagePrefix(threadId), message) as Position;
    const messageId = messageOfVersion(after) as string;
    if (page.isFull) return `${message} ${after}`;
    const query = { from: `${after} `, to: rangeOf(versionPrefix(messageId)).to, ...page.room };
    const found = await this.#store.range(query);
    for (const entry of ownVersions(threadId, messageId, found)) page.take(stored(threadId, position, entry));
    return isFull(found, query) ? `${message} ${found.at(-1)?.key}` : undefined;
  }
}

/** The original keeps a version of every message, we of those that were edited. */
function mayHaveVersions(record: MessageRecord): boolean {
  return record.editedTs !== undefined || record.sealing === undefined || record.sealing.isForeign;
}

/** Member by member: a spread of an entry, an object of the store's own kind, takes as long as parsing its value. */
function stored(threadId: string, position: MessageRecord['position'], { key, value }: Entry): Stored {
  try {
    return { key, value, record: readMessage(threadId, position, value), fault: undefined };
  } catch (error) {
    return { key, value, record: undefined, fault: (error as Error).message };
  }
}
