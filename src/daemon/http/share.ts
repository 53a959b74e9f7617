import { KmsError } from '../../errors.js';
import type { Held } from '../buffers.js';

/** What one request holds, until its answer has left, of the memory that all connections share. */
export class Share {
  private taken = 0;

  constructor(private held: Held) {}

  /** From here on it counts as an identity's; nothing has been taken yet. */
  belongTo(account: Held): void {
    this.held = account;
  }

  /** Throws BUSY, and takes nothing, if all connections together would hold too much. */
  take(bytes: number): void {
    if (!this.held.take(bytes)) throw new KmsError('BUSY');
    this.taken += bytes;
  }

  give(): void {
    this.held.give(this.taken);
    this.taken = 0;
  }
}
