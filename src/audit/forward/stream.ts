import type { Socket } from 'node:net';
import { FORWARD_STALL_MS } from '../../limits.js';
import type { Sink } from './sink.js';
import { syslogMessage } from './syslog-message.js';

/** How messages are told apart in a stream. */
export type Framing = 'counted' | 'ended';

const LINE_FEED = Buffer.from('\n');

/** RFC 6587, section 3.4.1, and RFC 5425, section 4.3: the length in bytes before each. On local sockets a line feed behind each. */
function framed(message: Buffer, framing: Framing): Buffer {
  if (framing === 'ended') return Buffer.concat([message, LINE_FEED]);
  return Buffer.concat([Buffer.from(`${message.length} `), message]);
}

/**
 * Syslog over a connected socket. Nobody confirms a message there: what the kernel took before the connection broke counts as sent,
 * and may be lost.
 */
export class StreamSink implements Sink {
  readonly #socket: Socket;
  readonly #framing: Framing;
  #ended: Error | undefined;

  constructor(socket: Socket, framing: Framing) {
    this.#socket = socket;
    this.#framing = framing;
    // What a receiver says means nothing, and must not pile up.
    socket.resume();
    // One that the receiver ended in order fails the next write.
    socket.on('error', (error) => {
      this.#ended ??= error;
    });
  }

  send(lines: readonly Buffer[]): Promise<number> {
    return new Promise((done, fail) => {
      if (this.#ended !== undefined) {
        fail(this.#ended);
        return;
      }
      const stalled = setTimeout(() => this.#socket.destroy(new Error('the receiver does not read')), FORWARD_STALL_MS);
      const bytes = Buffer.concat(lines.map((line) => framed(syslogMessage(line), this.#framing)));
      this.#socket.write(bytes, (error) => {
        clearTimeout(stalled);
        if (error) fail(this.#ended ?? error);
        else done(lines.length);
      });
    });
  }

  close(): void {
    this.#ended ??= new Error('closed');
    this.#socket.destroy();
  }
}
