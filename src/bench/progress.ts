/** How far a measurement is, in blocks. */
export interface Step {
  what: string;
  done: number;
  total: number;
  secondsLeft: number;
}

/** Counts blocks, and says what is done before them. */
export class Steps {
  private done = 0;
  private began = 0;

  constructor(
    private readonly total: number,
    /** What a block takes at least. */
    private readonly seconds: number,
    private readonly show: (step: Step) => void,
  ) {}

  begin(what: string): void {
    const { done, total } = this;
    // What comes before the first block says nothing of those that follow.
    if (done === 0) this.began = performance.now();
    const each = done === 0 ? this.seconds : (performance.now() - this.began) / 1e3 / done;
    this.show({ what, done, total, secondsLeft: Math.ceil((total - done) * each) });
  }

  making(keys: number, of: number): void {
    this.begin(`making keys: ${keys.toLocaleString('en-US')} of ${of.toLocaleString('en-US')}`);
  }

  end(): void {
    this.done++;
  }
}
