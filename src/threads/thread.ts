import type { KmsError } from '../errors.js';
import type { Json } from './json.js';

export interface Thread {
  threadId: string;
  title: string | null;
  /** RFC 3339, UTC. */
  createdAt: string;
  /** Under which its messages are written; null for a thread without encryption. */
  keyId: string | null;
}

export interface NewThread {
  /** As of a data key's thread: `[A-Za-z0-9._:@/-]`, up to 256 characters. One is made up unless told. */
  threadId?: string;
  title?: string;
}

export interface ThreadQuery {
  /** Threads at most, 1 to 1,000; 100 unless told. */
  limit?: number;
  /** `next` of the page before. */
  cursor?: string;
}

export interface ThreadPage {
  threads: Thread[];
  /** Threads whose records cannot be read. */
  damaged: string[];
  /** null on the last page. */
  next: string | null;
}

export interface NewMessage {
  /** Any plain JSON. */
  body: unknown;
  author?: string;
}

export interface Message {
  messageId: string;
  threadId: string;
  author: string | null;
  /** Nanoseconds since 1970, a decimal number: orders the messages of a thread, with `seq` among those of one instant. */
  ts: string;
  seq: number;
  /** RFC 3339, UTC. */
  createdAt: string;
  editedAt: string | null;
  isDeleted: boolean;
  /** null once deleted, and where `error` says why it cannot be read. */
  body: Json;
  /** Of this message alone: others of its listing are not touched by it. */
  error: KmsError | null;
}

export interface MessageQuery {
  /** Messages at most, 1 to 1,000; 100 unless told. A page of long ones has fewer, and may have none although there are more. */
  limit?: number;
  /** The newest first; the oldest first unless told. */
  reverse?: boolean;
  /** `next` of the page before. */
  cursor?: string;
}

export interface MessagePage {
  messages: Message[];
  /** null on the last page. */
  next: string | null;
}

export interface VersionPage {
  versions: Message[];
  /** null on the last page. */
  next: string | null;
}
