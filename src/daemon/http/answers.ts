import type { ServerResponse } from 'node:http';
import { ERROR_TABLE, type ErrorCode, type KmsError } from '../../errors.js';

/** Codes whose detail says what the caller did; the details of others are about our own insides. */
const TOLD: ReadonlySet<ErrorCode> = new Set([
  'INVALID_ARGUMENT',
  'TOO_LARGE',
  'CONFLICT',
  'PERMISSION_DENIED',
  'UNAUTHENTICATED',
  'UNSUPPORTED',
]);
/** How long, in seconds, somebody who is told that it is too much should wait. */
const RETRY_AFTER_S = 1;

/** What an error looks like in JSON, alone or as an item of a batch. */
export function errorBody(error: KmsError): { error: { code: ErrorCode; message: string } } {
  const { code } = error;
  return { error: { code, message: TOLD.has(code) ? error.message : ERROR_TABLE[code].message } };
}

/** Numbers above 2^32 come as bigints from where MessagePack needs them so; all are below 2^53. */
function plain(_name: string, value: unknown): unknown {
  return typeof value === 'bigint' ? Number(value) : value;
}

function send(response: ServerResponse, status: number, type: string, body: string): void {
  const bytes = Buffer.from(body, 'utf8');
  response.writeHead(status, { 'Content-Type': type, 'Content-Length': bytes.length, 'Cache-Control': 'no-store' });
  // Only after it was written: it may hold plaintext.
  response.end(bytes, () => bytes.fill(0));
}

export function sendJson(response: ServerResponse, status: number, body: object): void {
  send(response, status, 'application/json', JSON.stringify(body, plain));
}

export function sendText(response: ServerResponse, status: number, text: string): void {
  send(response, status, 'text/plain; charset=utf-8', text);
}

export function sendError(response: ServerResponse, status: number, error: KmsError): void {
  if (error.code === 'BUSY') response.setHeader('Retry-After', RETRY_AFTER_S);
  if (error.code === 'UNAUTHENTICATED') response.setHeader('WWW-Authenticate', 'Bearer, Basic realm="progressdb-kms"');
  sendJson(response, status, errorBody(error));
}
