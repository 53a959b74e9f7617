import type { Socket } from 'node:net';
import { KmsError } from '../../errors.js';
import { LINGER_MS } from '../../limits.js';
import { NO_REQUEST } from '../../wire/frames.js';
import { encodeError } from '../../wire/messages.js';
import { errorBody } from '../http/answers.js';

const ERROR = new KmsError('UNAUTHENTICATED', 'no accepted client certificate');

/**
 * Tells a peer that it is not let in, in the protocol that its first byte is of, and ends the connection. Nothing of what it
 * sent is read: one answer for all, whatever is wrong with its certificate.
 */
export function refuse(socket: Socket, firstByte: number): void {
  const timer = setTimeout(() => socket.destroy(), LINGER_MS);
  socket.on('close', () => clearTimeout(timer));
  socket.on('error', () => socket.destroy());
  // What it still sends is thrown away.
  socket.resume();
  socket.end(firstByte === 0 ? encodeError(NO_REQUEST, ERROR) : httpRefusal());
}

function httpRefusal(): string {
  const body = JSON.stringify(errorBody(ERROR));
  const head = ['HTTP/1.1 401 Unauthorized', 'Content-Type: application/json', `Content-Length: ${Buffer.byteLength(body)}`];
  return [...head, 'Cache-Control: no-store', 'Connection: close', '', body].join('\r\n');
}
