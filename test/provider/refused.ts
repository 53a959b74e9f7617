import type { ExecutionContext } from 'ava';
import { ERROR_TABLE, type ErrorCode, KmsError } from '../../dist/errors.js';

/**
 * The call must fail with this code and the table's message: alone, or, where `detail` is given, followed by a detail
 * that matches it.
 */
export async function refused(
  t: ExecutionContext,
  call: Promise<unknown> | (() => unknown),
  code: ErrorCode,
  detail?: RegExp,
  about?: string,
): Promise<KmsError> {
  const run = async () => (typeof call === 'function' ? call() : call);
  const error = (await t.throwsAsync(run, undefined, about)) as KmsError;
  expectError(t, error, code, detail, about);
  return error;
}

export function refusedSync(t: ExecutionContext, call: () => unknown, code: ErrorCode, detail?: RegExp, about?: string): void {
  expectError(t, t.throws(call, undefined, about), code, detail, about);
}

export function expectError(t: ExecutionContext, error: unknown, code: ErrorCode, detail?: RegExp, about?: string): void {
  t.true(error instanceof KmsError, `${about ?? ''} ${String(error)}`);
  if (!(error instanceof KmsError)) return;
  t.is(error.code, code, about);
  const { message } = ERROR_TABLE[code];
  if (detail === undefined) {
    t.is(error.message, message, about);
    return;
  }
  t.true(error.message.startsWith(`${message}: `), `${about ?? ''} ${error.message}`);
  t.regex(error.message.slice(message.length + 2), detail, about);
}
