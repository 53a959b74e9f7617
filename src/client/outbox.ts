import { FRAME_HEADER_BYTES } from '../wire/frames.js';

/** One write: what 256 requests of 1 KiB take, and some. */
const SLAB_BYTES = 512 * 1024;
/** Slabs kept for the next write: one being filled, one being written, and a spare. */
const KEPT_SLABS = 3;

export interface Slab {
  readonly bytes: Buffer;
  used: number;
  /** Holds plaintext: wiped before its next use. */
  secret: boolean;
}

/** Frames that wait to be written, gathered in slabs that are used again. A frame never spans two slabs. */
export class Outbox {
  private current: Slab | undefined;
  private full: Slab[] = [];
  private readonly spare: Slab[] = [];
  /** Bytes that wait or are being written. */
  bytes = 0;

  get isEmpty(): boolean {
    return this.current === undefined;
  }

  /** A slab with room for `size` bytes at its `used`; `commit` follows with what was written. */
  reserve(size: number): Slab {
    const { current } = this;
    if (current !== undefined) {
      if (current.bytes.length - current.used >= size) return current;
      this.full.push(current);
    }
    const spare = size <= SLAB_BYTES ? this.spare.pop() : undefined;
    this.current = spare ?? { bytes: Buffer.allocUnsafeSlow(Math.max(SLAB_BYTES, size)), used: 0, secret: false };
    return this.current;
  }

  commit(slab: Slab, end: number, secret: boolean): void {
    this.bytes += end - slab.used;
    slab.used = end;
    if (secret) slab.secret = true;
  }

  /** Everything that waits, oldest first. The caller gives each slab back with `recycle`, once it has been written. */
  take(): Slab[] {
    if (this.current === undefined) return [];
    const slabs = this.full;
    slabs.push(this.current);
    this.full = [];
    this.current = undefined;
    return slabs;
  }

  recycle(slabs: Slab[]): void {
    for (const slab of slabs) {
      this.bytes -= slab.used;
      if (slab.secret) slab.bytes.fill(0, 0, slab.used);
      slab.used = 0;
      slab.secret = false;
      if (slab.bytes.length === SLAB_BYTES && this.spare.length < KEPT_SLABS) this.spare.push(slab);
    }
  }

  /** Drops the waiting frames that `keep` refuses, given a frame's slab and where it begins. */
  retain(keep: (bytes: Buffer, start: number) => boolean): void {
    const slabs = this.take();
    for (const slab of slabs) this.compact(slab, keep);
    this.recycle(slabs.filter((slab) => slab.used === 0));
    this.full = slabs.filter((slab) => slab.used > 0);
    this.current = this.full.pop();
  }

  private compact(slab: Slab, keep: (bytes: Buffer, start: number) => boolean): void {
    const { bytes, used } = slab;
    let kept = 0;
    for (let start = 0, end = 0; start < used; start = end) {
      end = start + FRAME_HEADER_BYTES + bytes.readUInt32BE(start);
      if (!keep(bytes, start)) continue;
      bytes.copyWithin(kept, start, end);
      kept += end - start;
    }
    bytes.fill(0, kept, used);
    this.bytes -= used - kept;
    slab.used = kept;
  }
}
