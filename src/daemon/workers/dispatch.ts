import { RESPONSE_BUFFER_BYTES } from '../../limits.js';
import type { SharedBuffers } from '../buffers.js';
import type { Answers } from '../requests.js';
import type { Output } from '../walk.js';
import type { Order, Settled } from './crossing.js';

/**
 * The way of answers from the main thread to the worker that writes them: gathered, and sent once a turn of the event loop. With
 * them goes what they release, so that nothing is released before its answer is under way.
 */
export class Dispatch implements Answers, Output {
  private isClosed = false;
  private buffer: Buffer | undefined;
  private used = 0;
  private secret = false;
  private settled: Settled[] = [];
  private scheduled: NodeJS.Immediate | undefined;

  constructor(
    private readonly connection: number,
    private readonly buffers: SharedBuffers,
    private readonly post: (order: Order, moved?: ArrayBuffer[]) => void,
  ) {}

  get closed(): boolean {
    return this.isClosed;
  }

  /** Nobody takes answers any more; what they release is still told. */
  close(): void {
    this.isClosed = true;
  }

  /** As `Outlet.room`. */
  room(): Uint8Array {
    if (this.used > RESPONSE_BUFFER_BYTES / 2) this.flush();
    this.buffer ??= this.buffers.takeResponse();
    return this.buffer.subarray(this.used);
  }

  advance(bytes: number, secret: boolean): void {
    this.used += bytes;
    if (secret) this.secret = true;
  }

  append(frame: Uint8Array, secret: boolean): void {
    if (!this.isClosed) this.take(frame, secret);
    if (secret) frame.fill(0);
  }

  settle(place: number, requests: number, bytes: number): void {
    const known = this.settled.find(([at]) => at === place);
    if (known === undefined) this.settled.push([place, requests, bytes]);
    else {
      known[1] += requests;
      known[2] += bytes;
    }
    this.flushSoon();
  }

  flushSoon(): void {
    this.scheduled ??= setImmediate(() => this.flush());
  }

  private take(frame: Uint8Array, secret: boolean): void {
    const room = this.room();
    if (frame.length > room.length) {
      this.flush();
      this.send(frame, secret);
      return;
    }
    room.set(frame);
    this.advance(frame.length, secret);
    this.flushSoon();
  }

  flush(): void {
    clearImmediate(this.scheduled);
    this.scheduled = undefined;
    const { buffer, used, secret } = this;
    this.buffer = undefined;
    this.used = 0;
    this.secret = false;
    if ((used > 0 && !this.isClosed) || this.settled.length > 0) this.send(buffer?.subarray(0, used), secret);
    if (buffer !== undefined) this.buffers.giveResponse(buffer, secret ? used : 0);
  }

  /** A copy, which the worker wipes: what is kept here is used again. */
  private send(frames: Uint8Array | undefined, secret: boolean): void {
    const { connection, settled } = this;
    this.settled = [];
    const bytes = this.isClosed || frames === undefined || frames.length === 0 ? undefined : new ArrayBuffer(frames.length);
    if (bytes !== undefined) new Uint8Array(bytes).set(frames!);
    this.post({ kind: 'answers', connection, bytes, secret, settled }, bytes === undefined ? [] : [bytes]);
  }
}
