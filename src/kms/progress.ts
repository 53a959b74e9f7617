/** Spreads work over time: at most so many per second, 0 for any number. */
export class Pace {
  readonly #interval: number;
  #next = 0;

  constructor(perSecond: number) {
    this.#interval = perSecond === 0 ? 0 : 1000 / perSecond;
  }

  get isLimited(): boolean {
    return this.#interval > 0;
  }

  /** Milliseconds from `now` after which the next one may begin. What was not used of the time before is not made up for. */
  wait(now: number): number {
    const start = Math.max(now, this.#next);
    this.#next = start + this.#interval;
    return start - now;
  }
}

/** How far a walk over all keys is, and how fast. */
export class Progress {
  readonly #total: number;
  readonly #startedAt: number;
  #done = 0;

  constructor(total: number, now: number) {
    this.#total = total;
    this.#startedAt = now;
  }

  step(keys = 1): void {
    this.#done += keys;
  }

  get done(): number {
    return this.#done;
  }

  keysPerSecond(now: number): number {
    return now > this.#startedAt ? (this.#done * 1000) / (now - this.#startedAt) : 0;
  }

  /** Null while that cannot be said. */
  secondsLeft(now: number): number | null {
    const rate = this.keysPerSecond(now);
    return rate === 0 ? null : Math.ceil(Math.max(0, this.#total - this.#done) / rate);
  }
}
