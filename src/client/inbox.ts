import { markAsUntransferable } from 'node:worker_threads';
import { MAX_FRAME_BYTES } from '../limits.js';
import { FRAME_HEADER_BYTES } from '../wire/frames.js';
import { MalformedMessage } from '../wire/reader.js';

/** Results are views of slabs of this size, so that an answer costs no allocation of its own memory. */
export const RESULT_SLAB_BYTES = 256 * 1024;

/**
 * Cuts what the server sends into frames. Each chunk is copied once, out of the read buffer that all connections share
 * and into a slab that is never written twice: what the frames are read to may then be views of it for as long as the
 * caller likes. A caller that keeps one result keeps its slab.
 */
export class Inbox {
  private slab = Buffer.alloc(0);
  /** The unfinished frame is slab[start, end). */
  private start = 0;
  private end = 0;

  /** Takes a chunk and gives each frame it completes to `onFrame`. Throws MalformedMessage for an impossible length. */
  push(chunk: Uint8Array, onFrame: (slab: Buffer, start: number, end: number) => void): void {
    this.makeRoom(chunk.length);
    this.slab.set(chunk, this.end);
    this.end += chunk.length;
    const { slab, end } = this;
    let at = this.start;
    while (end - at >= FRAME_HEADER_BYTES) {
      const next = at + FRAME_HEADER_BYTES + this.frameLength(at);
      if (next > end) break;
      // First, so that a frame that cannot be read is not met again.
      this.start = next;
      onFrame(slab, at + FRAME_HEADER_BYTES, next);
      at = next;
    }
  }

  /** Forgets an unfinished frame: it may hold plaintext. */
  clear(): void {
    this.slab.fill(0, this.start, this.end);
    this.start = this.end;
  }

  private makeRoom(incoming: number): void {
    const { slab, start, end } = this;
    if (slab.length - end >= incoming) return;
    const held = end - start;
    let size = Math.max(RESULT_SLAB_BYTES, held + incoming);
    // A frame larger than a slab gets its whole memory at once, not once per chunk.
    if (held >= FRAME_HEADER_BYTES) size = Math.max(size, FRAME_HEADER_BYTES + this.frameLength(start) + incoming);
    const larger = Buffer.allocUnsafeSlow(size);
    // Transferred to another thread with one result, it would take the others along, and ours with them.
    markAsUntransferable(larger.buffer);
    slab.copy(larger, 0, start, end);
    slab.fill(0, start, end);
    this.slab = larger;
    this.start = 0;
    this.end = held;
  }

  private frameLength(at: number): number {
    const { slab } = this;
    const length = slab[at]! * 0x1000000 + ((slab[at + 1]! << 16) | (slab[at + 2]! << 8) | slab[at + 3]!);
    if (length === 0 || length > MAX_FRAME_BYTES) throw new MalformedMessage('a frame of an impossible length');
    return length;
  }
}
