/** Lets one piece of work run at a time: by turns among those that come under different names, each in the order it came. */
export class Turnstile {
  private readonly waiting = new Map<string, Array<() => Promise<void>>>();
  private isRunning = false;

  /** Resolves and rejects as `work` does. Who has much to do waits for itself, and others for one piece of it each time. */
  pass<T>(work: () => Promise<T>, name: string): Promise<T> {
    return new Promise((resolve, reject) => {
      const mine = this.waiting.get(name);
      const run = () => work().then(resolve, reject);
      if (mine === undefined) this.waiting.set(name, [run]);
      else mine.push(run);
      if (!this.isRunning) void this.run();
    });
  }

  private async run(): Promise<void> {
    this.isRunning = true;
    for (let next = this.next(); next !== undefined; next = this.next()) await next();
    this.isRunning = false;
  }

  /** Of the name whose last turn is longest ago. */
  private next(): (() => Promise<void>) | undefined {
    const [first] = this.waiting;
    if (first === undefined) return undefined;
    const [name, queue] = first;
    const next = queue.shift();
    // To the end of the row: a map keeps the order in which its keys were set.
    this.waiting.delete(name);
    if (queue.length > 0) this.waiting.set(name, queue);
    return next;
  }
}
