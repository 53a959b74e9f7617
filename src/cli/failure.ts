import { getSystemErrorMap } from 'node:util';
import { ERROR_TABLE, type ErrorCode, KmsError } from '../errors.js';

/** The command line is wrong. */
export const EXIT_USAGE = 2;
/** A file of the user could not be read or written, or `doctor` found something. */
export const EXIT_FAILED = 1;

/** The name scripts see with --json. */
export type FailureCode = ErrorCode | 'USAGE' | 'FILE';

/** What ends a command: one line, perhaps a hint on a line of its own, and the exit code. */
export class Failure extends Error {
  readonly exit: number;
  readonly hint: string | undefined;
  readonly code: FailureCode;

  constructor(code: FailureCode, message: string, hint?: string) {
    super(message);
    this.name = 'Failure';
    this.code = code;
    this.hint = hint;
    this.exit = code === 'USAGE' ? EXIT_USAGE : code === 'FILE' ? EXIT_FAILED : ERROR_TABLE[code].exit;
  }

  with(hint: string): Failure {
    return new Failure(this.code, this.message, hint);
  }
}

/** Where it is a keyring that is not opened. */
export const MASTER_KEY_HINT =
  '--master-key-file must name a key that opens the store; after `rotate-kek --new-master-key-file` the new one does';

const HINTS: Partial<Record<ErrorCode, string>> = {
  KEY_NOT_FOUND: '`progressdb-kms keys list` shows the keys of this store',
  AUTHENTICATION_FAILED: 'the file was changed or cut, or another store encrypted it',
  UNAUTHENTICATED: '--token-file, or --cert-file and --key-file, show the daemon who calls',
  KEY_DISABLED: '`progressdb-kms keys enable KEY_ID` allows it again',
  KEY_EXHAUSTED: '`progressdb-kms create-dek` makes a new key',
  SEALED: '`progressdb-kms unseal` reads the master key again',
  NOT_FOUND: '`progressdb-kms threads list` and `threads jobs` show what there is',
  STORE_UNAVAILABLE: '`progressdb-kms doctor` names what is wrong',
};

/** Whatever was thrown, as a Failure. An error of the operating system keeps its reason, an unknown one its message. */
export function failureOf(error: unknown): Failure {
  if (error instanceof Failure) return error;
  if (error instanceof KmsError) {
    const { cause } = error;
    const because = error.code === 'INTERNAL' && cause instanceof Error ? `: ${cause.message}` : '';
    return new Failure(error.code, error.message + because, HINTS[error.code]);
  }
  if (isSystemError(error)) return new Failure('FILE', error.message);
  return new Failure('INTERNAL', error instanceof Error ? error.message : String(error));
}

/** A Failure that names the file: `cannot read notes.txt: no such file or directory`. */
export function fileFailure(verb: string, path: string, error: unknown): Failure {
  return new Failure('FILE', `cannot ${verb} ${path}: ${reasonOf(error)}`);
}

/** In words of the operating system, where it is an error of that. */
export function reasonOf(error: unknown): string {
  if (!isSystemError(error)) return String(error);
  // Node's message adds the code, the call and the path, which is named already.
  return getSystemErrorMap().get(error.errno ?? 0)?.[1] ?? error.message;
}

export function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && typeof (error as NodeJS.ErrnoException).syscall === 'string';
}
