import { setMaxListeners } from 'node:events';
import { KmsError } from '../errors.js';
import { ACTOR_PATTERN, KEY_ID_PATTERN, MAX_AAD_BYTES, MAX_TIMER_MS, THREAD_ID_PATTERN } from '../limits.js';
import type { CallOptions } from '../provider.js';
import { type Actor, actorNumber } from '../vault.js';

/** Options of calls that make or change keys on behalf of somebody: who it is ends up in the record. */
export interface ActorOptions extends CallOptions {
  /** `uid:1000`; the process's own uid unless told. */
  actor?: string;
}

export interface StateOptions extends ActorOptions {
  /** PERMISSION_DENIED unless this is who created the key. */
  onlyCreatedBy?: string;
}

export function checkKeyId(keyId: unknown): string {
  if (typeof keyId !== 'string' || !KEY_ID_PATTERN.test(keyId)) throw new KmsError('INVALID_ARGUMENT', 'key id');
  return keyId;
}

export function checkThreadId(threadId: unknown): string {
  if (typeof threadId !== 'string' || !THREAD_ID_PATTERN.test(threadId)) throw new KmsError('INVALID_ARGUMENT', 'thread id');
  return threadId;
}

/** Who made a key: what a record's `created_by` may hold. */
export function checkActor(actor: unknown): string {
  if (typeof actor !== 'string' || !ACTOR_PATTERN.test(actor)) throw new KmsError('INVALID_ARGUMENT', 'actor');
  return actor;
}

let own: string | undefined;

/** The process itself, as whom it was when that was first asked: asking the system each time costs as much as making a key. */
export function ownActor(): string {
  own ??= `uid:${process.getuid?.() ?? 0}`;
  return own;
}

export function actorOf(options: ActorOptions | undefined): string {
  return checkActor(options?.actor ?? ownActor());
}

/** For the audit log: who uses a key, where that is not the space's own actor. */
export function userOf(options: ActorOptions | undefined): Actor {
  if (options?.actor === undefined) return undefined;
  // A good name has none only when there are no more numbers: then nothing is done in it that would have to be written.
  return actorNumber(options.actor) || actorNumber(checkActor(options.actor));
}

export function checkBytes(bytes: unknown, name: string): asserts bytes is Uint8Array {
  if (!(bytes instanceof Uint8Array)) throw new KmsError('INVALID_ARGUMENT', `${name} must be a Uint8Array`);
}

export function checkAad(aad: unknown): asserts aad is Uint8Array | undefined {
  if (aad === undefined) return;
  checkBytes(aad, 'aad');
  if (aad.length > MAX_AAD_BYTES) throw new KmsError('TOO_LARGE', `aad is longer than ${MAX_AAD_BYTES} bytes`);
}

function aborted(signal: AbortSignal): KmsError {
  return new KmsError('DEADLINE_EXCEEDED', 'the call was aborted', { cause: signal.reason });
}

/**
 * Runs `work` under the call's signal and deadline. Work that is not waited for any longer goes on to its end: a write
 * under way is not torn; what it then comes to is given to `giveBack`.
 */
export function within<T>(
  options: CallOptions | undefined,
  work: () => Promise<T>,
  giveBack: (unclaimed: T) => void = () => {},
): Promise<T> {
  const { signal, deadlineMs } = options ?? {};
  if (signal === undefined && deadlineMs === undefined) return work();
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    return Promise.reject(new KmsError('INVALID_ARGUMENT', 'signal: an AbortSignal was expected'));
  }
  if (signal?.aborted) return Promise.reject(aborted(signal));
  if (deadlineMs !== undefined && (typeof deadlineMs !== 'number' || Number.isNaN(deadlineMs))) {
    return Promise.reject(new KmsError('INVALID_ARGUMENT', 'deadlineMs: a number of milliseconds was expected'));
  }
  if (deadlineMs !== undefined && deadlineMs <= 0) return Promise.reject(new KmsError('DEADLINE_EXCEEDED'));
  return new Promise<T>((resolve, reject) => {
    let isOver = false;
    const leave = (error: KmsError) => {
      isOver = true;
      reject(error);
    };
    const onAbort = () => leave(aborted(signal as AbortSignal));
    const late = () => leave(new KmsError('DEADLINE_EXCEEDED'));
    const timer = deadlineMs === undefined || deadlineMs > MAX_TIMER_MS ? undefined : setTimeout(late, deadlineMs);
    // One signal for many calls at once is no leak of listeners, which Node would warn of.
    if (signal !== undefined) setMaxListeners(0, signal);
    signal?.addEventListener('abort', onAbort, { once: true });
    work()
      .then((result) => (isOver ? giveBack(result) : resolve(result)), reject)
      .finally(() => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
      });
  });
}

/** Memory of its own: V8 moves small arrays, and what it leaves behind could not be wiped. */
export function ownCopy(bytes: Uint8Array): Uint8Array {
  const copy = new Uint8Array(new ArrayBuffer(bytes.length));
  copy.set(bytes);
  return copy;
}
