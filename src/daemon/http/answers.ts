import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { type ErrorCode, errorTold, type KmsError } from '../../errors.js';
import { OverRate } from '../rates.js';
import type { Share } from './share.js';

const JSON_TYPE = 'application/json';
const TEXT_TYPE = 'text/plain; charset=utf-8';

/** How long, in seconds, somebody who is told that it is too much should wait: for others to finish, or for its own rate. */
function retryAfter(error: KmsError): number {
  return error instanceof OverRate ? Math.max(1, Math.ceil(error.retryAfterMs / 1_000)) : 1;
}

/** What an error looks like in JSON, alone or as an item of a batch. */
export function errorBody(error: KmsError): { error: { code: ErrorCode; message: string } } {
  return { error: errorTold(error) };
}

/**
 * Everything in one piece: with the header set beforehand, or with a body of bytes, Node writes twice or copies once more. The
 * text may hold plaintext, and cannot be wiped: docs/SECURITY.md. Returns the length of the body.
 */
function send(
  response: ServerResponse,
  status: number,
  type: string,
  id: string,
  body: string,
  more?: OutgoingHttpHeaders,
): number {
  const length = Buffer.byteLength(body);
  const headers = {
    'Content-Type': type,
    'Content-Length': length,
    'Cache-Control': 'no-store',
    'X-Request-Id': id,
  };
  response.writeHead(status, more === undefined ? headers : { ...headers, ...more });
  response.end(body);
  return length;
}

/**
 * `id` is the request's; `share`, of what the answer counts against, is that of a request that was carried out. Returns the length
 * of the body. Throws BUSY.
 */
export function sendJson(response: ServerResponse, status: number, id: string, body: object, share?: Share): number {
  const text = JSON.stringify(body);
  share?.take(text.length);
  return send(response, status, JSON_TYPE, id, text);
}

/** Wipes `bytes`, the JSON of a secret, once they are sent or cannot be: what Node and TLS have copied of them goes with their buffers. */
export function sendSecret(response: ServerResponse, id: string, bytes: Uint8Array): number {
  const { length } = bytes;
  response.on('close', () => bytes.fill(0));
  response.writeHead(200, {
    'Content-Type': JSON_TYPE,
    'Content-Length': length,
    'Cache-Control': 'no-store',
    'X-Request-Id': id,
  });
  response.end(bytes, () => bytes.fill(0));
  return length;
}

export function sendText(response: ServerResponse, status: number, id: string, text: string, type = TEXT_TYPE): number {
  return send(response, status, type, id, text);
}

export function sendError(response: ServerResponse, status: number, id: string, error: KmsError, allowed?: string): void {
  send(response, status, JSON_TYPE, id, JSON.stringify(errorBody(error)), {
    ...(error.code === 'BUSY' && { 'Retry-After': retryAfter(error) }),
    ...(error.code === 'UNAUTHENTICATED' && { 'WWW-Authenticate': 'Bearer, Basic realm="progressdb-kms"' }),
    ...(allowed !== undefined && { Allow: allowed }),
  });
}
