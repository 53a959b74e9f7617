/**
 * The one table of error codes. The native status (negated), the wire code, the HTTP status, the exit code of the
 * command line and docs/PROTOCOL.md all follow it; a test holds them together.
 */
export const ERROR_TABLE = {
  KEY_NOT_FOUND: { wire: 1, http: 404, exit: 10, message: 'no such key' },
  AUTHENTICATION_FAILED: { wire: 2, http: 400, exit: 11, message: 'decryption failed' },
  INVALID_ARGUMENT: { wire: 3, http: 400, exit: 2, message: 'invalid argument' },
  UNAUTHENTICATED: { wire: 4, http: 401, exit: 12, message: 'not authenticated' },
  PERMISSION_DENIED: { wire: 5, http: 403, exit: 13, message: 'permission denied' },
  KEY_DISABLED: { wire: 6, http: 409, exit: 14, message: 'the key is disabled' },
  KEY_DESTROYED: { wire: 7, http: 410, exit: 15, message: 'the key is destroyed' },
  KEY_EXHAUSTED: { wire: 8, http: 409, exit: 16, message: 'the key has reached its use limit' },
  SEALED: { wire: 9, http: 503, exit: 17, message: 'the key service is sealed' },
  BUSY: { wire: 10, http: 429, exit: 18, message: 'too much at once' },
  TOO_LARGE: { wire: 11, http: 413, exit: 19, message: 'the message is too large' },
  AUDIT_UNAVAILABLE: { wire: 12, http: 503, exit: 20, message: 'the audit log cannot be written' },
  STORE_UNAVAILABLE: { wire: 13, http: 503, exit: 21, message: 'the key store is unavailable' },
  DEADLINE_EXCEEDED: { wire: 14, http: 504, exit: 22, message: 'the deadline passed' },
  CONFLICT: { wire: 15, http: 409, exit: 23, message: 'conflicting state' },
  UNSUPPORTED: { wire: 16, http: 501, exit: 24, message: 'not supported' },
  INTERNAL: { wire: 17, http: 500, exit: 70, message: 'internal error' },
  NOT_FOUND: { wire: 18, http: 404, exit: 25, message: 'not found' },
} as const;

export type ErrorCode = keyof typeof ERROR_TABLE;

/** What failed for a reason of ours: nothing that the caller did, or could do better. */
export const FAILURES: ReadonlySet<ErrorCode> = new Set(['INTERNAL', 'STORE_UNAVAILABLE', 'AUDIT_UNAVAILABLE']);

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

/** What a caller over HTTP hears of an error. */
export function errorTold({ code, message }: KmsError): { code: ErrorCode; message: string } {
  return { code, message: TOLD.has(code) ? message : ERROR_TABLE[code].message };
}

const CODE_BY_WIRE = new Map<number, ErrorCode>(
  (Object.keys(ERROR_TABLE) as ErrorCode[]).map((code) => [ERROR_TABLE[code].wire, code]),
);

/** The error code behind a wire code, `INTERNAL` for a number this version does not know. */
export function errorCodeOfWire(wire: number): ErrorCode {
  return CODE_BY_WIRE.get(wire) ?? 'INTERNAL';
}

/**
 * The only error the library throws on purpose. `message` is the table's text, followed by the detail where one helps.
 * A decryption failure never carries a detail: what exactly did not match is nobody's business (an oracle otherwise).
 */
export class KmsError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, detail?: string, options?: ErrorOptions) {
    const { message } = ERROR_TABLE[code];
    super(detail === undefined || code === 'AUTHENTICATION_FAILED' ? message : `${message}: ${detail}`, options);
    this.name = 'KmsError';
    this.code = code;
  }
}

/** `error` as a KmsError: unchanged if it is one, else `INTERNAL` with the original as its cause, which stays local. */
export function asKmsError(error: unknown): KmsError {
  return error instanceof KmsError ? error : new KmsError('INTERNAL', undefined, { cause: error });
}
