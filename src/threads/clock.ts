import { MAX_SEQ, type Position } from './names.js';

const NS_PER_MS = 1_000_000n;

/** Gives each message of this process a place of its own, later than those before it even if the clock is set back. */
export class Clock {
  readonly #now: () => number;
  #ts = 0n;
  #seq = 0;

  /** `now` gives milliseconds since 1970. */
  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  next(): Position {
    const ts = BigInt(Math.floor(this.#now())) * NS_PER_MS;
    if (ts > this.#ts) {
      this.#ts = ts;
      this.#seq = 1;
    } else if (this.#seq === MAX_SEQ) {
      this.#ts += 1n;
      this.#seq = 1;
    } else {
      this.#seq += 1;
    }
    return { ts: String(this.#ts), seq: this.#seq };
  }
}
