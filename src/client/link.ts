import type net from 'node:net';
import type { KmsError } from '../errors.js';
import { READ_BUFFER_BYTES } from '../limits.js';
import { descriptorOf, dial, distrust, lost, notReached, openEventOf, reasonOf, type Server, tooSlow } from './server.js';

/**
 * One for the process's thread: a read fills it and is taken out of it before the event loop goes on, so that connections
 * can share it.
 */
const readBuffer = Buffer.allocUnsafeSlow(READ_BUFFER_BYTES);

export interface LinkEvents {
  /** Connected to a server that is trusted; `admit` follows once it has let us in. */
  onOpen(): void;
  /** Bytes came; the chunk is only valid during the call. True has it wiped afterwards. */
  onChunk(chunk: Uint8Array): boolean;
  /** Comes exactly once, unless `end` was called first. */
  onDown(error: KmsError): void;
}

/** One socket, from its connect to its end. A connection that breaks gets a new link. */
export class Link {
  private readonly socket: net.Socket;
  private readonly timer: NodeJS.Timeout;
  private isOpen = false;
  private isDown = false;
  /** Whether the server said anything: one that does not know our uid closes without a word. */
  private wasAnswered = false;
  private reason: Error | undefined;

  constructor(
    private readonly server: Server,
    private readonly events: LinkEvents,
  ) {
    const onread = { buffer: readBuffer, callback: (bytes: number) => this.read(readBuffer.subarray(0, bytes)) };
    this.socket = dial(server, onread);
    if (server.identity !== undefined) this.socket.on('data', (chunk) => this.read(chunk));
    this.socket.once(openEventOf(server), () => this.connected());
    this.socket.once('error', (error) => {
      this.reason = error;
    });
    // Without waiting for what is still to be written: nobody reads it.
    this.socket.once('end', () => this.socket.destroy());
    this.socket.once('close', () => this.down(this.describeEnd()));
    this.timer = setTimeout(() => this.down(tooSlow(server)), server.connectTimeoutMs);
  }

  /** The server has let us in: time to connect is up no more. */
  admit(): void {
    clearTimeout(this.timer);
  }

  /** The kernel has not taken all that was written. */
  get isStalled(): boolean {
    return this.socket.writableLength > 0;
  }

  /** One write of all buffers; `done` comes when the kernel has them, or never will take them. */
  write(buffers: readonly Uint8Array[], done: () => void): void {
    if (buffers.length === 1) {
      this.writeOne(buffers[0]!, done);
      return;
    }
    this.socket.cork();
    buffers.forEach((buffer, index) => {
      if (index + 1 < buffers.length) this.socket.write(buffer);
      else this.socket.write(buffer, done);
    });
    this.socket.uncork();
  }

  private writeOne(bytes: Uint8Array, done: () => void): void {
    const sent = this.sendAtOnce(bytes);
    if (sent === bytes.length) done();
    else this.socket.write(sent === 0 ? bytes : bytes.subarray(sent), done);
  }

  /** Past Node's stream, which takes longer for a write than the kernel does; only while it has nothing to write itself. */
  private sendAtOnce(bytes: Uint8Array): number {
    const { server, socket } = this;
    if (!('path' in server.place) || socket.writableLength > 0 || socket.destroyed) return 0;
    const fd = descriptorOf(socket);
    return fd < 0 ? 0 : server.sendNow(fd, bytes);
  }

  /** Closes without an `onDown`. */
  end(): void {
    this.isDown = true;
    clearTimeout(this.timer);
    this.socket.destroy();
  }

  private read(chunk: Uint8Array): boolean {
    if (!this.isOpen || this.isDown) return false;
    this.wasAnswered = true;
    if (this.events.onChunk(chunk)) chunk.fill(0);
    return true;
  }

  private connected(): void {
    if (this.isDown) return;
    const refusal = distrust(this.server, this.socket);
    if (refusal !== undefined) {
      this.down(refusal);
      return;
    }
    if ('path' in this.server.place) this.server.widen(descriptorOf(this.socket));
    this.isOpen = true;
    this.events.onOpen();
  }

  private describeEnd(): KmsError {
    if (!this.isOpen) return notReached(this.server, this.socket, this.reason);
    // A daemon that does not admit us closes before it reads: whether our first write still went out is chance.
    if (!this.wasAnswered) {
      const who = 'path' in this.server.place ? 'uid' : 'client';
      return lost(`the server closed it at once; is this ${who} allowed there?`);
    }
    return lost(this.reason === undefined ? 'the server closed it' : reasonOf(this.reason));
  }

  private down(error: KmsError): void {
    if (this.isDown) return;
    this.end();
    this.events.onDown(error);
  }
}
