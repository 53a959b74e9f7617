import type { IncomingMessage } from 'node:http';
import { KmsError } from '../../errors.js';
import { LARGE_HTTP_BODY_BYTES, MAX_HTTP_BODY_BYTES, MAX_JSON_COMMAS, MAX_JSON_OPENINGS } from '../../limits.js';
import { Turnstile } from '../turnstile.js';
import type { Share } from './share.js';

/** What an array of its own costs beside its bytes: a body in chunks of one byte each must not be counted as its length. */
const CHUNK_COST_BYTES = 512;

function tooLarge(): KmsError {
  return new KmsError('TOO_LARGE', `a body of more than ${MAX_HTTP_BODY_BYTES} bytes`);
}

/** Refuses by the announced length, before a byte of the body is taken. Throws TOO_LARGE. */
export function refuseLongBody(request: IncomingMessage): void {
  if (Number(request.headers['content-length'] ?? 0) > MAX_HTTP_BODY_BYTES) throw tooLarge();
}

function collect(request: IncomingMessage, share: Share, chunks: Buffer[]): Promise<void> {
  return new Promise((resolve, reject) => {
    let length = 0;
    request.on('data', (chunk: Buffer) => {
      length += chunk.length;
      chunks.push(chunk);
      try {
        if (length > MAX_HTTP_BODY_BYTES) throw tooLarge();
        share.take(chunk.length + CHUNK_COST_BYTES);
        share.pace(request, chunk.length);
      } catch (error) {
        request.removeAllListeners('data');
        reject(error);
      }
    });
    const cutOff = () => {
      // Every request closes: an error that nobody gets would cost as much as the encryption.
      if (!request.complete) reject(new KmsError('INVALID_ARGUMENT', 'the body was cut off'));
    };
    request.on('end', resolve);
    request.on('close', cutOff);
    request.on('error', cutOff);
    // Gone while its caller was looked at: it closed before anybody listened.
    if (request.destroyed) cutOff();
  });
}

/**
 * Text, parsed members, bytes, answer: what a body becomes is several times its size. The large ones are worked on one by one, so
 * that only what they were as they came in adds up.
 */
const large = new Turnstile();

/**
 * Reads the body and hands it, whole, to `use`, then wipes it. It is counted as it comes in: what it announced reserves nothing.
 * `name` is of whom a large one takes its turn.
 */
export async function withBody<T>(
  request: IncomingMessage,
  share: Share,
  name: string,
  use: (body: Buffer) => Promise<T>,
): Promise<T> {
  const chunks: Buffer[] = [];
  const work = async () => {
    if (chunks.length !== 1) chunks.push(Buffer.concat(chunks));
    return await use(chunks.at(-1)!);
  };
  try {
    await collect(request, share, chunks);
    const length = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    return await (length > LARGE_HTTP_BODY_BYTES ? large.pass(work, name) : work());
  } finally {
    for (const chunk of chunks) chunk.fill(0);
  }
}

/** Whether `byte` is there more than `most` times. */
function isOften(body: Buffer, byte: string, most: number): boolean {
  const code = byte.charCodeAt(0);
  let left = most;
  for (let at = body.indexOf(code); at >= 0; at = body.indexOf(code, at + 1)) if (left-- === 0) return true;
  return false;
}

/**
 * The members of a JSON object. Throws INVALID_ARGUMENT for anything else, and for one of more parts than the largest batch has:
 * an array of a million empty arrays takes up fifty times its text. An empty body has no members.
 */
export function parseObject(body: Buffer): object {
  if (body.length === 0) return {};
  if (isOften(body, ',', MAX_JSON_COMMAS) || isOften(body, '[', MAX_JSON_OPENINGS) || isOften(body, '{', MAX_JSON_OPENINGS)) {
    throw new KmsError('INVALID_ARGUMENT', 'the body has too many parts');
  }
  let value: unknown;
  try {
    value = JSON.parse(body.toString('utf8'));
  } catch {
    // The parser's message would repeat what the caller sent.
    throw new KmsError('INVALID_ARGUMENT', 'the body is not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new KmsError('INVALID_ARGUMENT', 'the body is not a JSON object');
  }
  return value;
}

/** The members of a query. Throws INVALID_ARGUMENT for one that stands there twice. */
export function parseQuery(query: string): object {
  const members: Record<string, string> = Object.create(null);
  for (const [name, value] of new URLSearchParams(query)) {
    if (name in members) throw new KmsError('INVALID_ARGUMENT', 'the query has a member twice');
    members[name] = value;
  }
  return members;
}
