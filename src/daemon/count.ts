/** A number that goes up and down, wherever it is kept. */
export interface Count {
  readonly total: number;
  add(by: number): void;
}

/** Kept by the thread that counts. */
export class OwnCount implements Count {
  total = 0;

  add(by: number): void {
    this.total += by;
  }
}

/** When what was asked for will be paid for, in milliseconds of `performance.now()`. */
export interface PaidAt {
  readonly at: number;
  /** By so many milliseconds: from `now` on, where it lies before that. */
  advance(now: number, by: number): void;
}

/** Kept by the thread that asks. */
export class OwnPaidAt implements PaidAt {
  at = 0;

  advance(now: number, by: number): void {
    this.at = Math.max(this.at, now) + by;
  }
}
