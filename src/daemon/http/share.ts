import { KmsError } from '../../errors.js';
import type { HeldBytes } from '../buffers.js';

/** What one request holds, until its answer has left, of the memory that all connections share. */
export class Share {
  private taken = 0;

  constructor(private readonly held: HeldBytes) {}

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
