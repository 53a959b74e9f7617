import type { IncomingMessage } from 'node:http';
import { KmsError } from '../../errors.js';
import { MAX_DEBT_MS } from '../../limits.js';
import type { Account } from '../accounts.js';
import type { Held } from '../buffers.js';

/** What one request takes of what all connections share: memory, until its answer has left, and its identity's rate. */
export class Share {
  private taken = 0;
  private account: Account | undefined;
  private isOver = false;

  constructor(private held: Held) {}

  /**
   * Whose it is, before anything is taken. Throws BUSY if that one has too many requests under way, INVALID_ARGUMENT if the request
   * ended while its caller was looked at: nobody would give back what it takes.
   */
  belongTo(account: Account): void {
    if (this.isOver) throw new KmsError('INVALID_ARGUMENT', 'the request was cut off');
    if (!account.begin()) throw new KmsError('BUSY');
    this.account = account;
    this.held = account;
  }

  get isOwned(): boolean {
    return this.account !== undefined;
  }

  /** Throws BUSY, and takes nothing, if it would be too much. */
  take(bytes: number): void {
    // Nobody waits for the answer any more, and nobody would give back what it takes.
    if (this.isOver) return;
    if (!this.held.take(bytes)) throw new KmsError('BUSY');
    this.taken += bytes;
  }

  /** So much of the request's body came: no more of it is read until that is paid for. */
  pace(request: IncomingMessage, bytes: number): void {
    const bucket = this.account?.bucket;
    if (bucket === undefined || !bucket.isLimited) return;
    const now = performance.now();
    bucket.charge(0, bytes, now);
    const debt = bucket.debt(now);
    if (debt <= 0) return;
    request.pause();
    setTimeout(() => request.resume(), Math.min(debt, MAX_DEBT_MS)).unref();
  }

  /** At the end of the request. May be called again. */
  give(): void {
    this.isOver = true;
    this.held.give(this.taken);
    this.taken = 0;
    this.account?.end();
    this.account = undefined;
  }
}
