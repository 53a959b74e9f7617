import { KmsError } from '../errors.js';
import type { OriginalKey } from '../kms/importing.js';
import { KEY_ID_PATTERN, THREAD_ID_PATTERN, WRAPPED_BYTES } from '../limits.js';

/** A key to import, and where it stands, for errors: `keys.jsonl:3`. */
export interface Found {
  where: string;
  key: OriginalKey;
}

/** Something that is no key to import. */
export interface Fault {
  where: string;
  error: KmsError;
}

export type Finding = Found | Fault;

export function fault(where: string, reason: string): Fault {
  return { where, error: new KmsError('INVALID_ARGUMENT', reason) };
}

/** The bytes, undefined unless it is the one base64 text of as many. */
function wrappedOf(text: unknown): Uint8Array | undefined {
  if (typeof text !== 'string') return undefined;
  const bytes = Buffer.from(text, 'base64');
  return bytes.length === WRAPPED_BYTES && bytes.toString('base64') === text ? bytes : undefined;
}

/** A time of the original, which has any precision and zone, as records have it; now where there is none to be read. */
function createdAtOf(value: unknown): string {
  const read = typeof value === 'string' ? Date.parse(value) : Number.NaN;
  const isTold = read > 0 && read < Date.now();
  return new Date(isTold ? read : Date.now()).toISOString();
}

/**
 * A key from the JSON of either generation: `{"id", "created_at", "wrapped", "thread_id"?}` of a file, or `{"key_id", "wrapped",
 * "thread_id"?}` of a line. Other members are of no meaning here.
 */
export function keyOf(where: string, value: unknown): Finding {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return fault(where, 'a JSON object was expected');
  const { id, key_id: keyId = id, wrapped: text, thread_id: thread, created_at: createdAt } = value as Record<string, unknown>;
  if (typeof keyId !== 'string' || !KEY_ID_PATTERN.test(keyId)) return fault(where, `key_id must match ${KEY_ID_PATTERN.source}`);
  const threadId = thread === undefined || thread === null ? '' : thread;
  if (typeof threadId !== 'string' || !(threadId === '' || THREAD_ID_PATTERN.test(threadId))) {
    return fault(where, `${keyId}: thread_id must match ${THREAD_ID_PATTERN.source}`);
  }
  const wrapped = wrappedOf(text);
  if (wrapped === undefined) return fault(where, `${keyId}: wrapped must be the base64 of ${WRAPPED_BYTES} bytes`);
  return { where, key: { keyId, threadId, wrapped, createdAt: createdAtOf(createdAt) } };
}

export function keyOfText(where: string, text: string): Finding {
  try {
    return keyOf(where, JSON.parse(text));
  } catch {
    return fault(where, 'not JSON');
  }
}
