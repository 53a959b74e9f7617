import { ERROR_TABLE, type ErrorCode, type KmsError } from '../errors.js';
import type { Message } from '../threads/thread.js';

/** Codes whose detail says what the caller did or named; the details of others are about our own insides. */
const TOLD: ReadonlySet<ErrorCode> = new Set([
  'INVALID_ARGUMENT',
  'TOO_LARGE',
  'CONFLICT',
  'PERMISSION_DENIED',
  'UNAUTHENTICATED',
  'UNSUPPORTED',
  'NOT_FOUND',
]);

interface Told {
  code: ErrorCode;
  message: string;
}

export function errorTold({ code, message }: KmsError): Told {
  return { code, message: TOLD.has(code) ? message : ERROR_TABLE[code].message };
}

/** Member names as they are in JSON: `threadId` becomes `thread_id`, inside too. Not for what holds a user's JSON. */
export function wireForm(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(wireForm);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => [
      name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      wireForm(member),
    ]),
  );
}

/** The body is the user's, whose names stay as they are. */
export function messageForm({ body, error, ...rest }: Message): object {
  return { ...(wireForm(rest) as object), body, error: error === null ? null : errorTold(error) };
}
