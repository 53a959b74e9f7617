import { KmsError } from '../errors.js';
import { errnoOf } from './file-system.js';
import { DamagedDocument } from './key-store.js';

interface Fault {
  kind: 'lost' | 'full';
  reason: string;
}

/**
 * Whether writes may go on. After EIO or a failed fsync they may not, until the store is opened anew: the page cache may
 * have dropped what was written, and the next fsync would report success all the same. A full disk only has to be tried again.
 */
export class WriteLatch {
  #fault: Fault | null = null;

  reason(): string | null {
    return this.#fault?.reason ?? null;
  }

  isFull(): boolean {
    return this.#fault?.kind === 'full';
  }

  /** Throws once what was written may be lost. Asked before a write, before its commit, and before its answer. */
  refuseIfLost(): void {
    if (this.#fault?.kind === 'lost') throw new KmsError('STORE_UNAVAILABLE', this.#fault.reason);
  }

  /** A probe file went to the disk: there is space again. */
  foundSpace(): void {
    if (this.isFull()) this.#fault = null;
  }

  /** What a failed step of a write means for later writes; returns the error for this one. */
  failed(error: unknown): Error {
    if (error instanceof KmsError || error instanceof DamagedDocument) return error;
    const errno = errnoOf(error);
    if (errno === '') return new KmsError('INTERNAL', undefined, { cause: error });
    const what = `${errno} at ${(error as NodeJS.ErrnoException).syscall ?? 'write'}`;
    if (errno === 'EIO') return this.lost(error, what);
    if (errno !== 'ENOSPC' && errno !== 'EDQUOT') return new KmsError('STORE_UNAVAILABLE', what, { cause: error });
    if (this.#fault === null) this.#fault = { kind: 'full', reason: `no space left (${what}); writes resume once there is` };
    return new KmsError('STORE_UNAVAILABLE', what, { cause: error });
  }

  /** A failed fsync, whatever its errno: ENOSPC here is a lost delayed allocation. */
  fsyncFailed(error: unknown): Error {
    return this.lost(error, `${errnoOf(error) || 'failure'} at fsync`);
  }

  /** Of what was written it cannot be told what there is. */
  lost(cause: unknown, what: string): Error {
    if (this.#fault?.kind !== 'lost') {
      this.#fault = { kind: 'lost', reason: `${what}; the store is read-only until it is opened again on a sound disk` };
    }
    return new KmsError('STORE_UNAVAILABLE', this.#fault.reason, { cause });
  }
}
