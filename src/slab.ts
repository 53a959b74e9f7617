import { markAsUntransferable } from 'node:worker_threads';

/** Below what malloc asks the kernel for anew: the page faults of larger ones cost more than they save (measured). */
const SLAB_BYTES = 64 * 1024;
/** Results above this get memory of their own: a slab would hold four of them and be pinned by any. */
export const LARGEST_FROM_SLAB = SLAB_BYTES / 4;
const ALIGNMENT = 8;

function newSlab(): ArrayBuffer {
  // Zeroed, though it costs: through a view's `buffer` its holder sees the rest of the slab.
  const buffer = new ArrayBuffer(SLAB_BYTES);
  // Nor may the holder of one result give all of them away to another thread.
  markAsUntransferable(buffer);
  return buffer;
}

/** Fresh results as views of a slab: an allocation of its own costs several times the encryption (measured). */
export class Slab {
  buffer = newSlab();
  bytes = new Uint8Array(this.buffer);
  at = 0;

  /** Afterwards `length` bytes may be written to `bytes` at `at`. */
  makeRoom(length: number): void {
    // A slab has no length once a holder has moved it elsewhere (`ArrayBuffer.transfer`), which not every Node keeps them from.
    if (this.at + length < this.bytes.length) return;
    this.buffer = newSlab();
    this.bytes = new Uint8Array(this.buffer);
    this.at = 0;
  }

  /** The bytes just written, as the caller's. */
  take(length: number): Uint8Array {
    const view = new Uint8Array(this.buffer, this.at, length);
    this.at = (this.at + length + ALIGNMENT - 1) & -ALIGNMENT;
    return view;
  }
}
