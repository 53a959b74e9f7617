/**
 * Where pages lie while jobs work on them: so many at once, whoever's they are, since hundreds of jobs may run in one process.
 * First come, first served. Who has one waits for no other one before he leaves it, so that nobody waits for ever.
 */
export class Tables {
  #free: number;
  readonly #waiting: Array<() => void> = [];

  constructor(count: number) {
    this.#free = count;
  }

  /** Resolves when there is a free one, with what is to be called once when it is free again. */
  async take(): Promise<() => void> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    return () => this.#leave();
  }

  #leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free += 1;
    else next();
  }
}
