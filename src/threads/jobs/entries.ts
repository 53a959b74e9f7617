import { setImmediate as nextTurn } from 'node:timers/promises';
import { type MessageRecord, readMessage } from '../message-record.js';
import { messagePrefix, positionAfter, rangeOf } from '../names.js';
import type { Entry, ThreadStore } from '../thread-store.js';
import { versionsOf } from '../versions.js';

/** One stored form of a message: the message itself, or a version of it. `record` is undefined where it cannot be read. */
export interface Stored extends Entry {
  record: MessageRecord | undefined;
  /** Why not. */
  fault: string | undefined;
}

export interface Page {
  entries: Stored[];
  /** The key to go on after; undefined at the end of the thread. */
  next: string | undefined;
}

/** Walks all that the store has of a thread's messages, page by page in the order of their keys, each with its versions. */
export class Entries {
  readonly #store: ThreadStore;

  constructor(store: ThreadStore) {
    this.#store = store;
  }

  /** Some `limit` messages after a key of one, '' for the beginning. */
  async page(threadId: string, after: string, limit: number): Promise<Page> {
    // A store in this process, and a key service beside it, may answer at once: a walk over a long thread would let nobody else in.
    await nextTurn();
    const prefix = messagePrefix(threadId);
    const { from, to } = rangeOf(prefix);
    const found = await this.#store.range({ from: after === '' ? from : `${after} `, to, limit });
    const messages = found.flatMap((entry) => storedAt(threadId, prefix, entry));
    const withVersions = messages.filter(({ record }) => record === undefined || mayHaveVersions(record));
    const versions = await Promise.all(withVersions.map((message) => this.versions(threadId, message)));
    const next = found.length < limit ? undefined : found.at(-1)?.key;
    return { entries: [...messages, ...versions.flat()], next };
  }

  /** The versions of a message. */
  async versions(threadId: string, { record }: Stored): Promise<Stored[]> {
    if (record === undefined) return [];
    const versions: Stored[] = [];
    for await (const page of versionsOf(this.#store, threadId, record.messageId)) {
      // A version is sealed as the message that it was: at the message's place.
      for (const entry of page) versions.push(stored(threadId, record.position, entry));
    }
    return versions;
  }
}

/** The original keeps a version of every message, we of those that were edited. */
function mayHaveVersions(record: MessageRecord): boolean {
  return record.editedTs !== undefined || record.sealing === undefined || record.sealing.isForeign;
}

function storedAt(threadId: string, prefix: string, entry: Entry): Stored[] {
  const position = positionAfter(prefix, entry.key);
  return position === undefined ? [] : [stored(threadId, position, entry)];
}

function stored(threadId: string, position: MessageRecord['position'], entry: Entry): Stored {
  try {
    return { ...entry, record: readMessage(threadId, position, entry.value), fault: undefined };
  } catch (error) {
    return { ...entry, record: undefined, fault: (error as Error).message };
  }
}
