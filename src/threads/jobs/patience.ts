const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;

/** How long to wait before asking again: twice as long after each failure, up to some seconds, so that who comes back is not stormed. */
export class Patience {
  #next = FIRST_PAUSE_MS;

  pause(): number {
    const pause = this.#next;
    this.#next = Math.min(pause * 2, LONGEST_PAUSE_MS);
    return pause;
  }

  /** Something has succeeded. */
  renew(): void {
    this.#next = FIRST_PAUSE_MS;
  }
}
