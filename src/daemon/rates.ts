import { KmsError } from '../errors.js';
import { MAX_DEBT_MS } from '../limits.js';
import { NO_LIMIT } from '../native.js';
import { OwnPaidAt, type PaidAt } from './count.js';

/** How much one identity may ask for, over all of its connections and both protocols. 0 is any amount. */
export interface RateLimits {
  /** An item of a batch counts as one. */
  readonly requestsPerSecond: number;
  readonly bytesPerSecond: number;
  /** For how long the rates are saved up while little is asked for. */
  readonly burstMs: number;
}

/** Too much at once: BUSY, and when it is worth asking again. */
export class OverRate extends KmsError {
  constructor(readonly retryAfterMs: number) {
    super('BUSY');
  }
}

/**
 * What one identity has asked for, as the times at which it will be paid for (GCRA, the virtual scheduling of ITU-T I.371): each
 * request moves them on by what it costs. What lies beyond `burstMs` from now is debt.
 *
 * A peer is let run into debt, up to MAX_DEBT_MS, and is then not read from until it has paid. That holds back who asks too much
 * where it costs us nothing, in the peer's own socket, and refuses nothing of a client that sends many requests at once: it is
 * answered later, at its rate. BUSY is for what this cannot hold back: more in one chunk than the rate gives in that time. Threads
 * that look at the same moment may each find the same room: what is too much of it is owed by all of them, and is paid before any
 * reads on.
 */
export class Bucket {
  /** Times are of `performance.now()`. */
  constructor(
    private limits: RateLimits,
    private readonly requestsPaidAt: PaidAt = new OwnPaidAt(),
    private readonly bytesPaidAt: PaidAt = new OwnPaidAt(),
  ) {}

  replace(limits: RateLimits): void {
    this.limits = limits;
  }

  get isLimited(): boolean {
    return this.limits.requestsPerSecond !== 0 || this.limits.bytesPerSecond !== 0;
  }

  /** Whether it is as full as can be: then another one may take its place. */
  isRested(now: number): boolean {
    return Math.max(this.requestsPaidAt.at, this.bytesPaidAt.at) <= now;
  }

  /** Milliseconds until all that was asked for is paid, 0 or less if nothing is owed. */
  debt(now: number): number {
    const { requestsPerSecond, bytesPerSecond, burstMs } = this.limits;
    const requests = requestsPerSecond === 0 ? 0 : this.requestsPaidAt.at;
    const bytes = bytesPerSecond === 0 ? 0 : this.bytesPaidAt.at;
    return Math.max(requests, bytes) - now - burstMs;
  }

  /** How many requests may be served at once; not more than 0 if none. */
  room(now: number): number {
    const { requestsPerSecond, burstMs } = this.limits;
    if (!this.isLimited) return NO_LIMIT;
    if (this.debt(now) >= MAX_DEBT_MS) return 0;
    if (requestsPerSecond === 0) return NO_LIMIT;
    const time = now + burstMs + MAX_DEBT_MS - Math.max(this.requestsPaidAt.at, now);
    return Math.min(NO_LIMIT, Math.ceil((time * requestsPerSecond) / 1_000));
  }

  charge(requests: number, bytes: number, now: number): void {
    const { requestsPerSecond, bytesPerSecond } = this.limits;
    if (requestsPerSecond !== 0) this.requestsPaidAt.advance(now, (requests * 1_000) / requestsPerSecond);
    if (bytesPerSecond !== 0) this.bytesPaidAt.advance(now, (bytes * 1_000) / bytesPerSecond);
  }

  /** Charges one request and returns in how many milliseconds its turn is. Throws OverRate, and nothing is charged. */
  take(now: number): number {
    if (!this.isLimited) return 0;
    const debt = this.debt(now);
    if (debt >= MAX_DEBT_MS) throw new OverRate(debt);
    this.charge(1, 0, now);
    return Math.max(0, this.debt(now));
  }

  /** The same for somebody who waits already, as long as others keep the bucket in debt: not charged until nothing is owed. */
  turn(now: number): number {
    const debt = this.debt(now);
    if (debt > 0) return debt;
    this.charge(1, 0, now);
    return 0;
  }
}
