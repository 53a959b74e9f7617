import type { Socket } from 'node:net';
import { RESPONSE_BUFFER_BYTES } from '../limits.js';
import { binding } from '../native.js';
import type { SharedBuffers } from './buffers.js';

/**
 * The way out of a connection: answers are gathered in one buffer and written once a chunk or once a turn of the event
 * loop. While the peer does not take what was written it is `stalled`, and whoever feeds it has to wait.
 */
export class Outlet {
  private isStalled = false;
  /** Writes that wait until they may be made, and the end of the last of them. */
  private clearing = 0;
  private sent: Promise<void> = Promise.resolve();
  private buffer: Buffer | undefined;
  private used = 0;
  private secret = false;
  /** Something in the buffer is of data operations, which the audit log may not have yet. */
  private untold = false;
  private writing = 0;
  private scheduled: NodeJS.Immediate | undefined;

  constructor(
    private readonly socket: Socket,
    /** The socket's own, to which may be written past it; undefined where what is written is not what goes out. */
    private readonly fd: number | undefined,
    private readonly buffers: SharedBuffers,
    private readonly stallMs: number,
    private readonly onStall: () => void,
    private readonly onDrained: () => void,
    /** Resolves when what is answered may be sent: where the audit log comes first. Undefined where nothing does. */
    private readonly cleared?: () => Promise<void>,
  ) {}

  get stalled(): boolean {
    return this.isStalled || this.clearing > 0;
  }

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

  advance(bytes: number, secret: boolean, untold: boolean): void {
    this.used += bytes;
    if (untold) this.untold = true;
    if (secret) this.secret = true;
  }

  /**
   * Adds an answer, to be written at the end of this turn of the loop. A copied `secret` is wiped. An `untold` one waits for the
   * audit log where that comes first; others do not, so that an operator is answered when it fails.
   */
  append(frame: Uint8Array, secret: boolean, untold = false): void {
    if (this.socket.destroyed) {
      if (secret) frame.fill(0);
      return;
    }
    const room = this.room();
    if (room.length < frame.length) {
      this.flush();
      this.send(frame, untold, () => secret && frame.fill(0));
      return;
    }
    room.set(frame);
    this.advance(frame.length, secret, untold);
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
    const { buffer, used, secret, untold } = this;
    if (buffer === undefined) return;
    this.buffer = undefined;
    this.used = 0;
    this.secret = false;
    this.untold = false;
    const giveBack = () => this.buffers.giveResponse(buffer, secret ? used : 0);
    if (used === 0 || this.socket.destroyed) giveBack();
    else this.send(buffer.subarray(0, used), untold, giveBack);
  }

  private send(bytes: Uint8Array, untold: boolean, done: () => void): void {
    if (this.cleared === undefined || (!untold && this.clearing === 0)) this.write(bytes, done);
    else void this.sendCleared(untold ? this.cleared() : undefined, this.sent, bytes, done);
  }

  /** In the order of the calls. Meanwhile nothing more is read: a disk that is slow must not fill the memory with answers. */
  private async sendCleared(
    cleared: Promise<void> | undefined,
    before: Promise<void>,
    bytes: Uint8Array,
    done: () => void,
  ): Promise<void> {
    let next = () => {};
    this.sent = new Promise((resolve) => {
      next = resolve;
    });
    if (this.clearing++ === 0) this.onStall();
    try {
      await Promise.all([cleared, before]);
    } catch {
      // What was done and stands in no log is not answered.
      this.socket.destroy();
    }
    this.clearing--;
    if (this.socket.destroyed) done();
    else this.write(bytes, done);
    next();
    if (this.stalled || this.socket.destroyed) return;
    this.flush();
    if (!this.stalled) this.onDrained();
  }

  /** Writes what is left, then ends the stream. */
  end(done: () => void): void {
    this.flush();
    const end = () => {
      // Bounds the wait for a peer that never reads the last answers.
      this.socket.setTimeout(this.stallMs);
      this.socket.end(done);
    };
    if (this.clearing === 0) end();
    else void this.sent.then(end);
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
    const sent = this.sendAtOnce(bytes);
    if (sent === bytes.length) {
      done();
      return;
    }
    this.writing++;
    this.socket.write(sent === 0 ? bytes : bytes.subarray(sent), () => {
      done();
      this.writing--;
      if (this.writing === 0) this.drained();
    });
    if (this.socket.writableLength > 0 && !this.isStalled) {
      this.isStalled = true;
      // The socket's own timer starts again as long as the kernel takes bytes: a slow reader lives, a dead one does not. What
      // the kernel took at once counts too, so that it may be the second period that ends it.
      this.socket.setTimeout(this.stallMs);
      this.onStall();
    }
  }

  /**
   * What the kernel has room for goes past Node's stream, which takes longer for a write than the kernel does. Only while the
   * stream has nothing to write, so that nothing is overtaken, and is not ended: until it is destroyed the descriptor is its.
   */
  private sendAtOnce(bytes: Uint8Array): number {
    const { fd, socket } = this;
    if (fd === undefined || this.writing > 0 || socket.writableLength > 0 || socket.writableEnded || socket.destroyed) return 0;
    return binding.sendNow(fd, bytes);
  }

  private drained(): void {
    if (!this.isStalled) return;
    this.isStalled = false;
    this.socket.setTimeout(0);
    this.flush();
    if (!this.stalled) this.onDrained();
  }
}
