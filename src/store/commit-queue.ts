/** Units and bytes of one transaction at most, unless a single call has more: it keeps the event loop for so long. */
const BATCH_UNITS = 4_096;
const BATCH_BYTES = 8 * 1024 * 1024;

interface Waiter<T> {
  resolve(value: T): void;
  reject(error: unknown): void;
}

interface Call<U, R> extends Waiter<R[]> {
  units: readonly U[];
  bytes: number;
}

export interface CommitSteps<U, R> {
  /** Calls `change` inside a transaction, and resolves with its result when that is durable. Rejects if none of it happened. */
  write<T>(change: () => T): Promise<T>;
  /** Inside a transaction, which is given up if it throws. What became of the unit. */
  apply(unit: U): R;
  bytesOf(unit: U): number;
  /** For a unit that needs no transaction of its own beside others: it is for `add`. */
  isAddition?(unit: U): boolean;
  /** Makes additions, and resolves with what became of each when that is durable. Rejects if that is not known. */
  add?(units: readonly U[]): Promise<R[]>;
  /** Where somebody asks for it. */
  compact?(): Promise<void>;
}

/**
 * One writer for all who commit. Which calls a transaction takes is decided when it has begun, so that all of one turn share it,
 * and those that come while it is being written share the next.
 */
export class CommitQueue<U, R> {
  readonly #steps: CommitSteps<U, R>;
  #calls: Array<Call<U, R>> = [];
  #askers: Waiter<void>[] = [];
  #working: Promise<void> | undefined;

  constructor(steps: CommitSteps<U, R>) {
    this.#steps = steps;
  }

  /** All units of one call share a transaction. */
  commit(units: readonly U[]): Promise<R[]> {
    let bytes = 0;
    for (const unit of units) bytes += this.#steps.bytesOf(unit);
    return new Promise((resolve, reject) => {
      this.#calls.push({ units, bytes, resolve, reject });
      this.#wake();
    });
  }

  /** Those who ask while one runs share the next one: it leaves out nothing that they saw removed. */
  compact(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#askers.push({ resolve, reject });
      this.#wake();
    });
  }

  /** Resolves when all that was asked before has been done or refused. */
  async idle(): Promise<void> {
    while (this.#working !== undefined) await this.#working;
  }

  #wake(): void {
    this.#working ??= this.#work();
  }

  async #work(): Promise<void> {
    while (this.#calls.length + this.#askers.length > 0) {
      const askers = this.#askers.splice(0);
      // What was committed before somebody asked is removed before it is looked for.
      for (let before = this.#calls.length; before > 0; ) before -= await this.#commitSome();
      if (askers.length > 0) await this.#compactFor(askers);
    }
    this.#working = undefined;
  }

  /** How many calls are answered. */
  async #commitSome(): Promise<number> {
    const additions = this.#steps.add === undefined ? [] : this.#take(({ units }) => units.every((one) => this.#isAddition(one)));
    if (additions.length > 0) return this.#addAll(additions);
    let calls: Array<Call<U, R>> = [];
    try {
      const made = await this.#steps.write(() => {
        calls = this.#take();
        return calls.map(({ units }) => units.map((unit) => this.#steps.apply(unit)));
      });
      for (const [i, { resolve }] of calls.entries()) resolve(made[i] as R[]);
    } catch (error) {
      if (calls.length === 0) calls = this.#take();
      for (const { reject } of calls) reject(error);
    }
    return calls.length;
  }

  #isAddition(unit: U): boolean {
    return this.#steps.isAddition?.(unit) === true;
  }

  async #addAll(calls: Array<Call<U, R>>): Promise<number> {
    try {
      const made = (await this.#steps.add?.(calls.flatMap(({ units }) => units))) as R[];
      let at = 0;
      for (const { units, resolve } of calls) {
        resolve(made.slice(at, at + units.length));
        at += units.length;
      }
    } catch (error) {
      for (const { reject } of calls) reject(error);
    }
    return calls.length;
  }

  /** The first calls, as long as they are wanted. */
  #take(isWanted: (call: Call<U, R>) => boolean = () => true): Array<Call<U, R>> {
    let units = 0;
    let bytes = 0;
    let count = 0;
    for (const call of this.#calls) {
      units += call.units.length;
      bytes += call.bytes;
      if (!isWanted(call) || (count > 0 && (units > BATCH_UNITS || bytes > BATCH_BYTES))) break;
      count += 1;
    }
    return this.#calls.splice(0, count);
  }

  async #compactFor(askers: readonly Waiter<void>[]): Promise<void> {
    try {
      await this.#steps.compact?.();
      for (const { resolve } of askers) resolve();
    } catch (error) {
      for (const { reject } of askers) reject(error);
    }
  }
}
