import { setTimeout as delay } from 'node:timers/promises';

/** Time, which tests make themselves. */
export interface Clock {
  /** Nanoseconds from some instant on. */
  now(): number;
  /** Lets answers come in. Resolves at `until` at the latest if that is to come, else after one turn of the event loop. */
  turn(until: number): Promise<void>;
  /** Rings once, in so many nanoseconds, if the event loop has turns until then. Returns what keeps it from ringing. */
  alarm(after: number, ring: () => void): () => void;
}

/** A timer of Node rings up to this much late: nearer instants are waited for turn by turn. */
const TIMER_NS = 3_000_000;

export const REAL_CLOCK: Clock = {
  now: () => performance.now() * 1e6,
  turn(until) {
    const left = until - performance.now() * 1e6;
    if (left > TIMER_NS) return delay((left - TIMER_NS) / 1e6);
    return new Promise((done) => setImmediate(done));
  },
  alarm(after, ring) {
    const timer = setTimeout(ring, after / 1e6);
    return () => clearTimeout(timer);
  },
};
