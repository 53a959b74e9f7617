import type { Socket } from 'node:net';
import { RESPONSE_BUFFER_BYTES } from '../limits.js';
import type { SharedBuffers } from './buffers.js';

/**
 * The way out of a connection: answers are gathered in one buffer and written once a chunk or once a turn of the event
 * loop. While the peer does not take what was written it is `stalled`, and whoever feeds it has to wait.
 */
export class Outlet {
  stalled = false;
  private buffer: Buffer | undefined;
  private used = 0;
  private secret = false;
  private writing = 0;
  private scheduled: NodeJS.Immediate | undefined;

  constructor(
    private readonly socket: Socket,
    private readonly buffers: SharedBuffers,
    private readonly stallMs: number,
    private readonly onStall: () => void,
    private readonly onDrained: () => void,
  ) {}

  get closed(): boolean {
    return this.socket.destroyed;
  }

  /**
   * Free space for the native core to write to; `advance` says how much it took. Never less than half a buffer, so that an
   * inline answer fits: the core sends what does not fit to the pool.
   */
  room(): Uint8Array {
    if (this.used > RESPONSE_BUFFER_BYTES / 2) this.flush();
    this.buffer ??= this.buffers.takeResponse();
    return this.used === 0 ? this.buffer : this.buffer.subarray(this.used);
  }

  advance(bytes: number, secret: boolean): void {
    this.used += bytes;
    if (secret) this.secret = true;
  }

  /** Adds an answer, to be written at the end of this turn of the loop. A copied `secret` is wiped. */
  append(frame: Uint8Array, secret: boolean): void {
    if (this.socket.destroyed) {
      if (secret) frame.fill(0);
      return;
    }
    const room = this.room();
    if (room.length < frame.length) {
      this.flush();
      this.write(frame, () => secret && frame.fill(0));
      return;
    }
    room.set(frame);
    this.advance(frame.length, secret);
    if (secret) frame.fill(0);
    this.flushSoon();
  }

  /** A stalled peer gets its next write when it has taken the last one: what waits is gathered meanwhile. */
  flushSoon(): void {
    if (this.stalled) return;
    this.scheduled ??= setImmediate(() => {
      this.scheduled = undefined;
      this.flush();
    });
  }

  flush(): void {
    const { buffer, used, secret } = this;
    if (buffer === undefined) return;
    this.buffer = undefined;
    this.used = 0;
    this.secret = false;
    const giveBack = () => this.buffers.giveResponse(buffer, secret ? used : 0);
    if (used === 0 || this.socket.destroyed) giveBack();
    else this.write(buffer.subarray(0, used), giveBack);
  }

  /** Wipes and gives back what was not written; for a connection that is gone. */
  discard(): void {
    if (this.scheduled !== undefined) clearImmediate(this.scheduled);
    this.scheduled = undefined;
    if (this.buffer !== undefined) this.buffers.giveResponse(this.buffer, this.secret ? this.used : 0);
    this.buffer = undefined;
    this.used = 0;
    this.secret = false;
  }

  private write(bytes: Uint8Array, done: () => void): void {
    this.writing++;
    this.socket.write(bytes, () => {
      done();
      this.writing--;
      if (this.writing === 0) this.drained();
    });
    if (this.socket.writableLength > 0 && !this.stalled) {
      this.stalled = true;
      // The socket's own timer starts again as long as the kernel takes bytes: a slow reader lives, a dead one does not. What
      // the kernel took at once counts too, so that it may be the second period that ends it.
      this.socket.setTimeout(this.stallMs);
      this.onStall();
    }
  }

  private drained(): void {
    if (!this.stalled) return;
    this.stalled = false;
    this.socket.setTimeout(0);
    this.flush();
    if (!this.stalled) this.onDrained();
  }
}
