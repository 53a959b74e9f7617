import { type ConnectOpts, Socket, type SocketConstructorOpts } from 'node:net';
import type { SharedBuffers } from './buffers.js';

/** Where a connection's bytes come from: a descriptor, or a socket over TLS that was opened and is paused. */
export type Source = { fd: number } | { socket: Socket };

/**
 * The socket of a source. All that comes is read into `buffers.readable`: `onBytes` says how much it is, and returns false to be
 * asked before more is read. Nothing comes before the next turn of the loop. Throws if the descriptor cannot be used.
 */
export function openSource(source: Source, buffers: SharedBuffers, onBytes: (bytes: number) => boolean): Socket {
  return 'fd' in source ? openPlain(source.fd, buffers, onBytes) : openSecured(source.socket, buffers, onBytes);
}

function openPlain(fd: number, { readable }: SharedBuffers, callback: (bytes: number) => boolean): Socket {
  const options: SocketConstructorOpts & ConnectOpts = {
    fd,
    readable: true,
    writable: true,
    // A peer that has said all may close its half and still get its answers.
    allowHalfOpen: true,
    onread: { buffer: readable, callback },
  };
  return new Socket(options);
}

/** Over TLS Node hands out memory of its own: what it holds is copied to where the rest is read, and wiped. */
function openSecured(socket: Socket, { readable }: SharedBuffers, onBytes: (bytes: number) => boolean): Socket {
  socket.on('data', (chunk: Buffer) => {
    for (let at = 0; at < chunk.length && !socket.destroyed; at += readable.length) {
      onBytes(chunk.copy(readable, 0, at, at + readable.length));
    }
    chunk.fill(0);
  });
  // For later: the rest of the connection is not there yet.
  setImmediate(() => socket.resume());
  return socket;
}
