import { parse, stringify } from 'lossless-json';
import type { Path } from './field-policy.js';
import { checkDepth, type Json } from './json.js';
import type { Position } from './names.js';

const STORED_ID = /^[\x20-\x7e]{1,256}$/;

/** How the body of a message was written. */
export interface Sealing {
  /** The original wrote the message first: its text may hold more than we know, and numbers of more digits than a double has. */
  isForeign: boolean;
  /** The places that are sealed, in the order they were. */
  at: readonly Path[];
  /** The policy that chose them. */
  policy: readonly string[];
}

/** A message as the store has it. */
export interface MessageRecord {
  messageId: string;
  threadId: string;
  author: string | undefined;
  position: Position;
  /** With envelopes where `sealing` says; null once deleted. */
  body: Json;
  /** undefined for what the original wrote: there the envelopes are found by their look. */
  sealing: Sealing | undefined;
  /** Nanoseconds since 1970 as a decimal number; undefined for one that was never edited. */
  editedTs: string | undefined;
  isDeleted: boolean;
}

/** Whether the original wrote it first. */
export function isForeign({ sealing }: MessageRecord): boolean {
  return sealing === undefined || sealing.isForeign;
}

function isPath(value: unknown): value is Path {
  return Array.isArray(value) && value.every((step) => typeof step === 'string' || Number.isSafeInteger(step));
}

function sealingOf(enc: unknown): Sealing | undefined {
  if (enc === undefined) return undefined;
  const { format, at, policy, foreign } = enc as Record<string, unknown>;
  if (format !== 1 || !Array.isArray(at) || !at.every(isPath) || !Array.isArray(policy)) throw new Error('its enc is none');
  return { isForeign: foreign === true, at, policy: policy.filter((path): path is string => typeof path === 'string') };
}

/** A Buffer as it is: another view of it would be one more object for each message. */
function textOf(bytes: Uint8Array): string {
  return (bytes instanceof Buffer ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)).toString('utf8');
}

/** The parser's own message quotes the text, and why a message is damaged is told, logged, and kept in jobs. */
function parsed(bytes: Uint8Array): Record<string, unknown> {
  try {
    return JSON.parse(textOf(bytes)) as Record<string, unknown>;
  } catch {
    throw new Error('it is not JSON');
  }
}

/** Throws an Error for what is no message. `position` is that of the key, whose digits a JSON number would not keep. */
export function readMessage(threadId: string, position: Position, bytes: Uint8Array): MessageRecord {
  const stored = parsed(bytes);
  const { id, author, body, enc, edited_ts: editedTs, deleted } = stored;
  // It goes into keys of the store, whoever made it up.
  if (typeof id !== 'string' || !STORED_ID.test(id)) throw new Error('it has no id');
  if (enc === undefined) checkDepth(body);
  return {
    messageId: id,
    threadId,
    author: typeof author === 'string' ? author : undefined,
    position,
    body: (body ?? null) as Json,
    sealing: sealingOf(enc),
    editedTs: typeof editedTs === 'string' ? editedTs : undefined,
    isDeleted: deleted === true,
  };
}

function encMember({ isForeign, at, policy }: Sealing): object {
  return { format: 1, at, policy, foreign: isForeign || undefined };
}

/** The bytes of a message of ours. `ts` is a number, as the original writes it, of more digits than a double has. */
export function messageBytes({
  messageId,
  threadId,
  author,
  position,
  body,
  sealing,
  editedTs,
  isDeleted,
}: MessageRecord): Uint8Array {
  const head = JSON.stringify({ id: messageId, thread: threadId, author });
  const rest = JSON.stringify({
    body: isDeleted ? undefined : body,
    enc: sealing && encMember(sealing),
    edited_ts: editedTs,
    deleted: isDeleted || undefined,
  });
  return Buffer.from(`${head.slice(0, -1)},"ts":${position.ts},${rest.slice(1)}`, 'utf8');
}

/** The body in the text of a message, its numbers digit for digit (lossless-json). */
export function exactBody(bytes: Uint8Array): Json {
  return ((parse(Buffer.from(bytes).toString('utf8')) as Record<string, unknown>)['body'] ?? null) as Json;
}

/** The bytes of a message that stood there as `before`. What the original wrote and we do not know stays, digit for digit. */
export function changedMessage(before: Uint8Array, record: MessageRecord): Uint8Array {
  const { body, sealing, editedTs, isDeleted } = record;
  if (sealing?.isForeign !== true) return messageBytes(record);
  const stored = parse(Buffer.from(before).toString('utf8')) as Record<string, unknown>;
  const change = {
    body: isDeleted ? undefined : body,
    enc: encMember(sealing),
    edited_ts: editedTs,
    deleted: isDeleted || undefined,
  };
  return Buffer.from(stringify({ ...stored, ...change }) as string, 'utf8');
}
