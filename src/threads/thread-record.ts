import { isInteger, parse, stringify } from 'lossless-json';
import { KmsError } from '../errors.js';

/** The keys of a thread, as its record has them. */
export interface ThreadKeys {
  /** What is written is encrypted under it. */
  keyId: string;
  wrapped: string;
  kekId: string;
  kekVersion: string;
  /** All that messages may be under, the oldest first; the original's messages are under that one. */
  all: readonly string[];
}

/** What the store has of a thread. `bytes` are what a change of it expects to find. */
export interface ThreadRecord {
  threadId: string;
  bytes: Uint8Array;
  /** undefined where the thread was made without encryption. */
  keys: ThreadKeys | undefined;
  /** Nothing of the original's format is left in it, and none is taken any more. */
  isMigrated: boolean;
  /** The original never wrote into it: the ids of its messages are ours, and name their places. */
  isOwn: boolean;
  /** It had no key while the original may have written it: nothing without our marks in it is an envelope. */
  wasPlain: boolean;
  /** Under way out: nobody reads or writes it any more. */
  isPurged: boolean;
  title: string | undefined;
  /** RFC 3339, UTC. */
  createdAt: string;
}

interface KmsMember {
  key_id?: unknown;
  wrapped_dek?: unknown;
  kek_id?: unknown;
  kek_version?: unknown;
  keys?: unknown;
}

function textOr(value: unknown, other: string): string {
  return typeof value === 'string' ? value : other;
}

function keysOf(kms: KmsMember | undefined): ThreadKeys | undefined {
  if (typeof kms?.key_id !== 'string' || kms.key_id === '') return undefined;
  const named = Array.isArray(kms.keys) ? kms.keys.filter((key): key is string => typeof key === 'string') : [];
  return {
    keyId: kms.key_id,
    wrapped: textOr(kms.wrapped_dek, ''),
    kekId: textOr(kms.kek_id, ''),
    kekVersion: textOr(kms.kek_version, ''),
    all: named.includes(kms.key_id) ? [...new Set(named)] : [...new Set(named), kms.key_id],
  };
}

/** Nanoseconds since 1970 as RFC 3339. */
export function timeOf(ts: string): string {
  const milliseconds = /^\d{1,20}$/.test(ts) ? Number(BigInt(ts) / 1_000_000n) : Number.NaN;
  return Math.abs(milliseconds) <= 8.64e15 ? new Date(milliseconds).toISOString() : '';
}

/** Throws STORE_UNAVAILABLE for what is no thread's record. */
export function readThread(threadId: string, bytes: Uint8Array): ThreadRecord {
  try {
    const meta = parse(Buffer.from(bytes).toString('utf8'), null, (text) => (isInteger(text) ? BigInt(text) : Number(text)));
    const { id, title, created_ts, kms, migrated, own, plain, purged } = meta as Record<string, unknown>;
    if (id !== undefined && id !== threadId) throw new Error('it names another thread');
    return {
      threadId,
      bytes,
      keys: keysOf(kms as KmsMember | undefined),
      isMigrated: migrated === true,
      isOwn: own === true,
      wasPlain: plain === true,
      isPurged: purged === true,
      title: typeof title === 'string' ? title : undefined,
      createdAt: timeOf(String(created_ts ?? '')),
    };
  } catch (cause) {
    throw new KmsError('STORE_UNAVAILABLE', `the record of thread ${threadId} is damaged`, { cause });
  }
}

function kmsMember({ keyId, wrapped, kekId, kekVersion, all }: ThreadKeys): KmsMember {
  return { key_id: keyId, wrapped_dek: wrapped, kek_id: kekId, kek_version: kekVersion, keys: [...all] };
}

export function newThread(threadId: string, ts: string, title: string | undefined, keys: ThreadKeys | undefined): Uint8Array {
  const kms = keys === undefined ? undefined : kmsMember(keys);
  const text = stringify({ id: threadId, title, created_ts: BigInt(ts), kms, migrated: true, own: true });
  return Buffer.from(text as string, 'utf8');
}

/** The record with other keys or marks; members that we do not know stay, digit for digit. */
export function changedThread(
  { bytes }: ThreadRecord,
  change: { keys?: ThreadKeys; isMigrated?: true; wasPlain?: true; isPurged?: true },
): Uint8Array {
  const meta = parse(Buffer.from(bytes).toString('utf8')) as Record<string, unknown>;
  if (change.keys !== undefined) meta['kms'] = { ...(meta['kms'] as object | undefined), ...kmsMember(change.keys) };
  if (change.isMigrated) meta['migrated'] = true;
  if (change.wasPlain) meta['plain'] = true;
  if (change.isPurged) meta['purged'] = true;
  return Buffer.from(stringify(meta) as string, 'utf8');
}
