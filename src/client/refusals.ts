import { KmsError } from '../errors.js';

/** Why a call with these options does not begin. */
export function refusalOf(deadlineMs: number, signal: AbortSignal | undefined): KmsError | undefined {
  if (typeof deadlineMs !== 'number' || Number.isNaN(deadlineMs)) {
    return new KmsError('INVALID_ARGUMENT', 'deadlineMs: a number of milliseconds was expected');
  }
  // Before anything is taken for the call: a listener that cannot be added, or later not be removed, would keep it for ever.
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    return new KmsError('INVALID_ARGUMENT', 'signal: an AbortSignal was expected');
  }
  if (deadlineMs <= 0) return new KmsError('DEADLINE_EXCEEDED');
  return signal?.aborted ? aborted(signal) : undefined;
}

/** An aborted call has run out of the time its caller gave it: the table has no code of its own for that. */
export function aborted(signal: AbortSignal): KmsError {
  return new KmsError('DEADLINE_EXCEEDED', 'the call was aborted', { cause: signal.reason });
}

/** The code that the embedded provider answers with once it is closed. */
export function closed(): KmsError {
  return new KmsError('SEALED', 'this client was closed');
}
