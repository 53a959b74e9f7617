import { KmsError } from '../errors.js';

/** Where a message stands in its thread: nanoseconds since 1970 as a decimal number, and a counter among those of one instant. */
export interface Position {
  ts: string;
  seq: number;
}

const TS_DIGITS = 20;
const SEQ_DIGITS = 6;
export const MAX_SEQ = 10 ** SEQ_DIGITS - 1;
const POSITION = /^(\d{20})-(\d{6,})$/;
/** The end of a range of keys that begin alike: the byte after every printable one. */
const END = '\x7f';

function positionText({ ts, seq }: Position): string {
  return `${ts.padStart(TS_DIGITS, '0')}-${String(seq).padStart(SEQ_DIGITS, '0')}`;
}

function positionOf(text: string): Position | undefined {
  const [, ts, seq] = POSITION.exec(text) ?? [];
  return ts === undefined ? undefined : { ts: ts.replace(/^0+(?=\d)/, ''), seq: Number(seq) };
}

export function threadKey(threadId: string): string {
  return `thread:${threadId}:meta`;
}

/** The thread whose meta a key names; undefined for other keys. */
export function threadOfKey(key: string): string | undefined {
  return /^thread:(.+):meta$/.exec(key)?.[1];
}

/** The first key that may name another thread's meta, after one that begins with `thread:`: messages are skipped, not walked. */
export function keyBeyond(key: string): string {
  const [, messages] = /^(thread:.+:msg:)\d{20}-\d{6,}$/.exec(key) ?? [];
  // A colon is the byte after the digits: beyond all positions. A space is the first that may follow.
  return messages === undefined ? `${key} ` : `${messages}:`;
}

/** Which key of the key service a thread has, for those who know the thread only. */
export function mapKey(threadId: string): string {
  return `kms:map:thread:${threadId}`;
}

export function messagePrefix(threadId: string): string {
  return `thread:${threadId}:msg:`;
}

export function messageKey(threadId: string, at: Position): string {
  return messagePrefix(threadId) + positionText(at);
}

/** Of a key that begins with `prefix`. A thread's name may hold colons: undefined for what belongs to a thread of a longer name. */
export function positionAfter(prefix: string, key: string): Position | undefined {
  return positionOf(key.slice(prefix.length));
}

/** A message's id names its place, so that it is found without an index. */
export function messageIdOf(at: Position): string {
  return `msg-${positionText(at)}`;
}

export function positionOfMessage(messageId: unknown): Position | undefined {
  return typeof messageId === 'string' && messageId.startsWith('msg-') ? positionOf(messageId.slice(4)) : undefined;
}

/** What keys of versions begin with. */
export const VERSION = 'version:msg:';

export function versionPrefix(messageId: string): string {
  return `${VERSION}${messageId}:`;
}

export function versionKey(messageId: string, at: Position): string {
  return versionPrefix(messageId) + positionText(at);
}

export function rangeOf(prefix: string): { from: string; to: string } {
  return { from: prefix, to: prefix + END };
}

/** A message's id comes from outside and goes into keys of the store. */
export function checkMessageId(messageId: unknown): string {
  if (typeof messageId !== 'string' || !/^[A-Za-z0-9._@/-]{1,256}$/.test(messageId)) {
    throw new KmsError('INVALID_ARGUMENT', 'message id');
  }
  return messageId;
}

const PROVISION = 'kms:provision:thread:';
const PURGE = 'kms:purge:thread:';

/** Somebody is making a key for the thread. */
export function provisionKey(threadId: string): string {
  return PROVISION + threadId;
}

/** The thread is being purged: until the end, whatever happens. */
export function purgeKey(threadId: string): string {
  return PURGE + threadId;
}

export const PROVISIONS = { prefix: PROVISION, ...rangeOf(PROVISION) };
export const PURGES = { prefix: PURGE, ...rangeOf(PURGE) };

/** The id of the message that a version belongs to, or all below a prefix do; undefined for other keys. */
export function messageOfVersion(key: string): string | undefined {
  return /^version:msg:(.+):(?:\d{20}-\d{6,})?$/.exec(key)?.[1];
}

const BACKUP = 'backup:migrate:';
const EXPIRY = 'kms:backups:';

/** What stood under a key before a job rewrote it. */
export function backupKey(key: string): string {
  return BACKUP + key;
}

/** Until when the backups of a job are kept, and the keys that go with them. */
export function expiryKey(jobId: string): string {
  return EXPIRY + jobId;
}

/** The store's bytes hold more than the store does. */
export const COMPACTION = 'kms:compaction';

export const BACKUPS = { prefix: BACKUP, ...rangeOf(BACKUP) };
export const EXPIRIES = { prefix: EXPIRY, ...rangeOf(EXPIRY) };
