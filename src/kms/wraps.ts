import { FIRST_WRAP_BLOCK, LAST_WRAP_BLOCK } from '../limits.js';

/**
 * Wraps reserved of the active KEK, against its nonce limit (NIST SP 800-38D, section 8.3), and who writes under which KEK. A
 * reservation belongs to one KEK: what was reserved of another one is worth nothing once the KEK is succeeded.
 */
export class Wraps {
  #kekId: string;
  #left = 0;
  #block = FIRST_WRAP_BLOCK;
  readonly #writers = new Map<string, number>();
  readonly #waiting: Array<() => void> = [];

  constructor(kekId: string) {
    this.#kekId = kekId;
  }

  get left(): number {
    return this.#left;
  }

  /** How many to reserve next. */
  get block(): number {
    return this.#block;
  }

  /** Called with each keyring that has become durable. */
  activate(kekId: string): void {
    if (kekId === this.#kekId) return;
    this.#kekId = kekId;
    this.#left = 0;
    this.#block = FIRST_WRAP_BLOCK;
  }

  granted(kekId: string, block: number): void {
    if (kekId !== this.#kekId) return;
    this.#left += block;
    this.#block = Math.min(block * 2, LAST_WRAP_BLOCK);
  }

  /** Takes that many, and has their user counted as a writer until `leave`. */
  enter(count: number): void {
    this.#left -= count;
    this.#writers.set(this.#kekId, (this.#writers.get(this.#kekId) ?? 0) + 1);
  }

  leave(kekId: string): void {
    const writers = (this.#writers.get(kekId) ?? 1) - 1;
    if (writers > 0) this.#writers.set(kekId, writers);
    else this.#writers.delete(kekId);
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /** Resolves when nobody writes under another KEK than the active one. */
  async drained(): Promise<void> {
    while ([...this.#writers.keys()].some((kekId) => kekId !== this.#kekId)) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }
}
