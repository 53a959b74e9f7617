import { KmsError } from '../errors.js';
import { MAX_BATCH_ITEMS } from '../limits.js';
import type { BatchAad } from '../provider.js';
import { ownCopy } from './calls.js';

/** The items of a batch, copied only where something has to be waited for: what the caller has of them may change meanwhile. */
export class Batch {
  readonly inputs: Uint8Array[];
  readonly #aads: Array<Uint8Array | undefined> | undefined;
  #aad: Uint8Array | undefined;
  #heldFrom: number | undefined;

  /**
   * A batch with an item that is no message at all is refused as a whole, before any work, as it would be on the wire. The arrays
   * are copied, so that what was checked once stays so.
   */
  constructor(given: readonly Uint8Array[], aad: BatchAad, check: (input: unknown, aad: unknown) => void) {
    if (!Array.isArray(given)) throw new KmsError('INVALID_ARGUMENT', 'a batch is an array of Uint8Array');
    if (given.length > MAX_BATCH_ITEMS) throw new KmsError('TOO_LARGE', `a batch has at most ${MAX_BATCH_ITEMS} items`);
    this.inputs = given.slice();
    this.#aads = Array.isArray(aad) ? aad.slice() : undefined;
    this.#aad = this.#aads === undefined ? (aad as Uint8Array | undefined) : undefined;
    if (this.#aads !== undefined && this.#aads.length !== this.inputs.length)
      throw new KmsError('INVALID_ARGUMENT', 'aad: one per item, or one for all');
    for (let index = 0; index < this.inputs.length; index += 1) check(this.inputs[index], this.aadOf(index));
  }

  aadOf(index: number): Uint8Array | undefined {
    return this.#aads === undefined ? this.#aad : this.#aads[index];
  }

  /** What comes before `from` has been read. */
  hold(from: number): void {
    if (this.#heldFrom !== undefined) return;
    this.#heldFrom = from;
    this.#aad &&= ownCopy(this.#aad);
    for (let index = from; index < this.inputs.length; index += 1) {
      this.inputs[index] = ownCopy(this.inputs[index]!);
      const aad = this.#aads?.[index];
      if (aad) this.#aads![index] = ownCopy(aad);
    }
  }

  wipe(): void {
    for (let index = this.#heldFrom ?? this.inputs.length; index < this.inputs.length; index += 1) this.inputs[index]!.fill(0);
  }
}
