import { MAX_DEBT_MS } from '../limits.js';
import { NO_LIMIT } from '../native.js';
import type { Account } from './accounts.js';

/** Keeps one connection to the rate of its identity: while that is in debt, nothing is read from it. */
export class Pace {
  /** Whether the connection must not be read from. */
  isHeld = false;
  private timer: NodeJS.Timeout | undefined;
  /** Charged when the reading went on, before it was known what would come. */
  private ahead = 0;

  constructor(
    private account: Account,
    private readonly hold: () => void,
    private readonly goOn: () => void,
  ) {}

  /** How many requests the next chunk may hold. */
  room(): number {
    const { bucket } = this.account;
    return bucket.isLimited ? bucket.room(performance.now()) : NO_LIMIT;
  }

  /** So many were served, and so many refused for want of room. */
  count(requests: number, refused: number): void {
    const { bucket } = this.account;
    if (!bucket.isLimited) return;
    const paid = Math.min(this.ahead, requests);
    this.ahead -= paid;
    bucket.charge(requests - paid, 0, performance.now());
    if (refused > 0) this.account.refused(refused);
  }

  /** At the end of a chunk of so many bytes. */
  settle(bytes: number): void {
    const { bucket } = this.account;
    if (!bucket.isLimited) return;
    const now = performance.now();
    bucket.charge(0, bytes, now);
    const debt = bucket.debt(now);
    if (debt <= 0 || this.isHeld) return;
    this.isHeld = true;
    this.hold();
    this.waitFor(debt);
  }

  /** What somebody else owes does not hold it any more. */
  become(account: Account): void {
    if (account === this.account) return;
    this.stop();
    this.account = account;
    this.ahead = 0;
    if (!this.isHeld) return;
    this.isHeld = false;
    this.goOn();
  }

  stop(): void {
    clearTimeout(this.timer);
  }

  private waitFor(milliseconds: number): void {
    // Looked at again after a while: the limits may have been changed meanwhile.
    this.timer = setTimeout(() => this.askAgain(), Math.min(milliseconds, MAX_DEBT_MS)).unref();
  }

  /**
   * Of the identity's connections, which all wait for the same moment, each pays for one request before it is read again: so
   * they go on one after the other, as the rate allows, and not all at once.
   */
  private askAgain(): void {
    const wait = this.account.bucket.turn(performance.now());
    if (wait > 0) {
      this.waitFor(wait);
      return;
    }
    this.ahead = 1;
    this.isHeld = false;
    this.goOn();
  }
}
