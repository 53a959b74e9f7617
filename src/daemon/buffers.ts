import { KmsError } from '../errors.js';
import { MAX_FRAME_BYTES, MAX_HELD_BYTES, READ_BUFFER_BYTES, READ_HEADROOM_BYTES, RESPONSE_BUFFER_BYTES } from '../limits.js';
import { FRAME_HEADER_BYTES } from '../wire/frames.js';
import { type Count, OwnCount } from './count.js';

/** Response buffers kept for reuse: those of the chunks of one turn of the event loop, not of every stalled connection. */
const KEPT_RESPONSE_BUFFERS = 8;

/** Memory that is counted and bounded. */
export interface Held {
  /** False, and nothing is counted, if it would be too much. */
  take(bytes: number): boolean;
  give(bytes: number): void;
}

/** Counts what all connections together keep in memory for requests that are unfinished or wait. */
export class HeldBytes implements Held {
  constructor(private readonly held: Count = new OwnCount()) {}

  get bytes(): number {
    return this.held.total;
  }

  take(bytes: number): boolean {
    // Counted first, and looked at then: of threads that take at once none goes beyond the bound.
    this.held.add(bytes);
    if (this.held.total <= MAX_HELD_BYTES) return true;
    this.held.add(-bytes);
    return false;
  }

  give(bytes: number): void {
    this.held.add(-bytes);
  }
}

/**
 * The buffers that all connections of a thread share. What is read lies at `readStart`; the room before it takes the
 * unfinished frame of the chunk before, so that both are one run of bytes.
 */
export class SharedBuffers {
  readonly input = Buffer.alloc(READ_HEADROOM_BYTES + READ_BUFFER_BYTES);
  readonly readStart = READ_HEADROOM_BYTES;
  readonly readable = this.input.subarray(READ_HEADROOM_BYTES);
  private readonly free: Buffer[] = [];

  takeResponse(): Buffer {
    return this.free.pop() ?? Buffer.allocUnsafeSlow(RESPONSE_BUFFER_BYTES);
  }

  /** Takes a buffer back after its write; the first `secretBytes` held plaintext. */
  giveResponse(buffer: Buffer, secretBytes: number): void {
    if (secretBytes > 0) buffer.fill(0, 0, secretBytes);
    if (this.free.length < KEPT_RESPONSE_BUFFERS) this.free.push(buffer);
  }

  /** At the end of the thread. */
  wipe(): void {
    this.input.fill(0);
    for (const buffer of this.free) buffer.fill(0);
  }
}

/** A first allocation that takes the unfinished frame of an ordinary chunk. */
const SMALL_BYTES = 4096;
/** A connection keeps its buffer between frames up to this size: a thousand idle connections must not hold much. */
const KEPT_BYTES = 16 * 1024;

/**
 * The beginning of a frame whose rest has not come. It may be plaintext: whatever leaves it is wiped. It grows with what has
 * arrived and not with what was announced, so that four bytes cannot reserve 16 MiB.
 */
export class PartialFrame {
  length = 0;
  private bytes: Buffer | undefined;
  private counted = 0;
  /** By whom; only of interest while it is more than nothing. */
  private countedBy: Held | undefined;

  /** `held` counts what is kept; it may be replaced between two frames or within one. */
  constructor(public held: Held) {}

  /** Bytes of the whole frame with its header, 0 while the header is not complete. */
  get frameBytes(): number {
    return this.bytes === undefined || this.length < FRAME_HEADER_BYTES ? 0 : FRAME_HEADER_BYTES + this.bytes.readUInt32BE(0);
  }

  /** Throws TOO_LARGE for an announced length beyond the protocol's, BUSY if all connections together hold too much. */
  append(source: Buffer, start: number, end: number): void {
    const length = this.length + end - start;
    if (this.bytes === undefined || this.bytes.length < length) this.grow(length);
    source.copy(this.bytes!, this.length, start, end);
    this.length = length;
    if (this.frameBytes > FRAME_HEADER_BYTES + MAX_FRAME_BYTES) throw new KmsError('TOO_LARGE', 'a frame above the limit');
  }

  /** Puts what is held right before `end` of `target` and forgets it. Returns where it begins. */
  moveBefore(target: Buffer, end: number): number {
    const start = end - this.length;
    this.bytes?.copy(target, start, 0, this.length);
    this.clear();
    return start;
  }

  /** Hands the buffer with what is held over to the caller, who wipes it. */
  release(): Buffer {
    const whole = (this.bytes ?? Buffer.alloc(0)).subarray(0, this.length);
    this.bytes = undefined;
    this.clear();
    return whole;
  }

  clear(): void {
    this.bytes?.fill(0, 0, this.length);
    if (this.bytes !== undefined && this.bytes.length > KEPT_BYTES) this.bytes = undefined;
    this.countedBy?.give(this.counted);
    this.countedBy = undefined;
    this.counted = 0;
    this.length = 0;
  }

  private grow(least: number): void {
    const wanted = Math.max(SMALL_BYTES, least, Math.min(2 * least, FRAME_HEADER_BYTES + MAX_FRAME_BYTES));
    if (wanted > KEPT_BYTES) {
      this.countedBy ??= this.held;
      if (!this.countedBy.take(wanted - this.counted)) throw new KmsError('BUSY');
      this.counted = wanted;
    }
    const larger = Buffer.allocUnsafeSlow(wanted);
    this.bytes?.copy(larger, 0, 0, this.length);
    this.bytes?.fill(0, 0, this.length);
    this.bytes = larger;
  }
}
