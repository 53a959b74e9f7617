import net from 'node:net';
import { KmsError } from '../errors.js';
import { READ_BUFFER_BYTES } from '../limits.js';

/**
 * One for the process's thread: a read fills it and is taken out of it before the event loop goes on, so that connections
 * can share it.
 */
const readBuffer = Buffer.allocUnsafeSlow(READ_BUFFER_BYTES);

export interface LinkOptions {
  path: string;
  /** Whether a server of this uid is spoken to. */
  trusts(uid: number): boolean;
  peerOf(fd: number): { uid: number };
  connectTimeoutMs: number;
}

export interface LinkEvents {
  /** Connected to a server that is trusted. */
  onOpen(): void;
  /** Bytes came; the chunk is only valid during the call. True has it wiped afterwards. */
  onChunk(chunk: Uint8Array): boolean;
  /** Comes exactly once, unless `end` was called first. */
  onDown(error: KmsError): void;
}

function lost(detail: string): KmsError {
  return new KmsError('STORE_UNAVAILABLE', `the connection to the key service was lost: ${detail}`);
}

function reasonOf(error: Error): string {
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message;
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
    private readonly options: LinkOptions,
    private readonly events: LinkEvents,
  ) {
    const onread = { buffer: readBuffer, callback: (bytes: number) => this.read(bytes) };
    this.socket = net.connect({ path: options.path, onread });
    this.socket.once('connect', () => this.connected());
    this.socket.once('error', (error) => {
      this.reason = error;
    });
    // Without waiting for what is still to be written: nobody reads it.
    this.socket.once('end', () => this.socket.destroy());
    this.socket.once('close', () => this.down(this.describeEnd()));
    this.timer = setTimeout(
      () => this.down(new KmsError('STORE_UNAVAILABLE', `no connection to ${options.path} in ${options.connectTimeoutMs} ms`)),
      options.connectTimeoutMs,
    );
  }

  /** The kernel has not taken all that was written. */
  get isStalled(): boolean {
    return this.socket.writableLength > 0;
  }

  /** One write of all buffers; `done` comes when the kernel has them, or never will take them. */
  write(buffers: readonly Uint8Array[], done: () => void): void {
    if (buffers.length === 1) {
      this.socket.write(buffers[0]!, done);
      return;
    }
    this.socket.cork();
    buffers.forEach((buffer, index) => {
      if (index + 1 < buffers.length) this.socket.write(buffer);
      else this.socket.write(buffer, done);
    });
    this.socket.uncork();
  }

  /** Closes without an `onDown`. */
  end(): void {
    this.isDown = true;
    clearTimeout(this.timer);
    this.socket.destroy();
  }

  private read(bytes: number): boolean {
    if (!this.isOpen || this.isDown) return false;
    this.wasAnswered = true;
    if (this.events.onChunk(readBuffer.subarray(0, bytes))) readBuffer.fill(0, 0, bytes);
    return true;
  }

  private connected(): void {
    if (this.isDown) return;
    clearTimeout(this.timer);
    const refusal = this.refusal();
    if (refusal !== undefined) {
      this.down(refusal);
      return;
    }
    this.isOpen = true;
    this.events.onOpen();
  }

  /** Before a byte goes out: what is listening there may be anybody's, and the first request may carry plaintext. */
  private refusal(): KmsError | undefined {
    const { _handle: handle } = this.socket as unknown as { _handle: { fd: number } | null };
    if (handle === null || handle.fd < 0) return lost('closed');
    try {
      const { uid } = this.options.peerOf(handle.fd);
      if (this.options.trusts(uid)) return undefined;
      return new KmsError('PERMISSION_DENIED', `the server at ${this.options.path} runs as uid ${uid}, which is not trusted`);
    } catch (cause) {
      return new KmsError('PERMISSION_DENIED', 'the uid of the server cannot be told', { cause });
    }
  }

  private describeEnd(): KmsError {
    if (!this.isOpen) {
      const why = this.reason === undefined ? 'closed' : reasonOf(this.reason);
      return new KmsError('STORE_UNAVAILABLE', `cannot connect to the key service at ${this.options.path}: ${why}`);
    }
    // A daemon that does not admit us closes before it reads: whether our first write still went out is chance.
    if (!this.wasAnswered) return lost('the server closed it at once; is this uid allowed there?');
    return lost(this.reason === undefined ? 'the server closed it' : reasonOf(this.reason));
  }

  private down(error: KmsError): void {
    if (this.isDown) return;
    this.end();
    this.events.onDown(error);
  }
}
