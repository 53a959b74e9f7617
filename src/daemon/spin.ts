/**
 * Keeps the event loop turning for a while after each chunk of requests: while something waits for the end of a turn, libuv asks
 * the kernel what there is and does not sleep, and the next request finds nobody who has to be woken. Timers and every other
 * connection have their turns as always. When nothing has come for the time, the loop sleeps.
 */
export class Spin {
  private until = 0;
  private isTurning = false;
  private readonly turn = () => {
    if (this.now() < this.until) setImmediate(this.turn);
    else this.isTurning = false;
  };

  /** `now` is in milliseconds. */
  constructor(
    private readonly forMs: number,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** Something came. */
  goOn(): void {
    this.until = this.now() + this.forMs;
    if (this.isTurning) return;
    this.isTurning = true;
    setImmediate(this.turn);
  }
}
