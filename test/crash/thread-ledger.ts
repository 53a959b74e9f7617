/** A number that was to be written: nobody knows whether it was while it is open. */
type Fate = 'open' | 'made' | 'lost';

/** What a process told of its writes before it was killed: each is the number of a body. */
export class ThreadLedger {
  readonly #fates = new Map<number, Fate>();
  /** The number that a message was appended with, by its id. */
  readonly #appended = new Map<string, number>();
  readonly #edits = new Map<string, number[]>();
  readonly #appends = new Set<number>();
  listed = 0;

  get made(): number {
    return [...this.#fates.values()].filter((fate) => fate === 'made').length;
  }

  get lost(): number {
    return [...this.#fates.values()].filter((fate) => fate === 'lost').length;
  }

  /** The messages that were appended, for sure. */
  get messages(): ReadonlyMap<string, number> {
    return this.#appended;
  }

  isEdited(messageId: string): boolean {
    return this.#edits.has(messageId);
  }

  append(n: number): void {
    this.#fates.set(n, 'open');
    this.#appends.add(n);
  }

  appended(n: number, messageId: string): void {
    this.#fates.set(n, 'made');
    this.#appended.set(messageId, n);
  }

  /** One line of `thread-child.ts`. */
  hear(line: string): void {
    const [what, number, messageId = ''] = line.split(' ');
    const n = Number(number);
    if (what === 'will') this.append(n);
    else if (what === 'made') this.appended(n, messageId);
    else if (what === 'lost') this.#fates.set(n, 'lost');
    else if (what === 'edited') this.#fates.set(n, 'made');
    else if (what === 'listed') this.listed += n;
    else if (what === 'edit') {
      this.#fates.set(n, 'open');
      this.#edits.set(messageId, [...(this.#edits.get(messageId) ?? []), n]);
    }
  }

  /** What is wrong with what was found: the numbers of each message's bodies, its versions first. */
  faults(found: ReadonlyMap<string, readonly number[]>): string[] {
    const faults: string[] = [];
    for (const messageId of this.#appended.keys()) if (!found.has(messageId)) faults.push(`message ${messageId} is lost`);
    const seen = new Set<number>();
    for (const [messageId, numbers] of found) {
      const fault = this.#faultOf(messageId, numbers) ?? numbers.find((n) => seen.has(n));
      if (fault !== undefined) faults.push(`message ${messageId}: ${fault}`);
      for (const n of numbers) seen.add(n);
    }
    return faults;
  }

  #faultOf(messageId: string, [first, ...later]: readonly number[]): string | undefined {
    const own = this.#appended.get(messageId);
    const isOurs =
      own === undefined ? this.#appends.has(first as number) && this.#fates.get(first as number) === 'open' : first === own;
    if (!isOurs) return `it was written with ${first}, not with ${own}`;
    // Those that nobody knows of may be there, at their place; those that were made must be.
    const expected = (this.#edits.get(messageId) ?? []).filter((n) => this.#fates.get(n) === 'made' || later.includes(n));
    const isLost = (n: number) => this.#fates.get(n) === 'lost';
    if (later.some(isLost)) return `an edit that failed is there: ${later.find(isLost)}`;
    return expected.join() === later.join() ? undefined : `its edits are ${later}, not ${expected}`;
  }
}
