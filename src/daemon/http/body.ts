import type { IncomingMessage } from 'node:http';
import { KmsError } from '../../errors.js';
import { MAX_HTTP_BODY_BYTES } from '../../limits.js';
import type { HeldBytes } from '../buffers.js';

function tooLarge(): KmsError {
  return new KmsError('TOO_LARGE', `a body of more than ${MAX_HTTP_BODY_BYTES} bytes`);
}

/** Refuses by the announced length, before a byte of the body is taken. Throws TOO_LARGE. */
export function refuseLongBody(request: IncomingMessage): void {
  if (Number(request.headers['content-length'] ?? 0) > MAX_HTTP_BODY_BYTES) throw tooLarge();
}

/** What one request's body holds of the memory that all connections share. */
class Share {
  private taken = 0;

  constructor(private readonly held: HeldBytes) {}

  /** Throws BUSY if all connections together hold too much. */
  take(bytes: number): void {
    if (!this.held.take(bytes)) throw new KmsError('BUSY');
    this.taken += bytes;
  }

  give(): void {
    this.held.give(this.taken);
    this.taken = 0;
  }
}

function collect(request: IncomingMessage, share: Share, chunks: Buffer[]): Promise<void> {
  return new Promise((resolve, reject) => {
    let length = 0;
    request.on('data', (chunk: Buffer) => {
      length += chunk.length;
      chunks.push(chunk);
      try {
        if (length > MAX_HTTP_BODY_BYTES) throw tooLarge();
        share.take(chunk.length);
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
  });
}

/**
 * Reads the body and hands it, whole, to `use`; it is wiped and given back to the common memory when that is through. A body
 * is counted while it comes in and while it is worked on: what it announced reserves nothing.
 */
export async function withBody<T>(request: IncomingMessage, held: HeldBytes, use: (text: string) => Promise<T>): Promise<T> {
  const share = new Share(held);
  const chunks: Buffer[] = [];
  try {
    await collect(request, share, chunks);
    if (chunks.length === 1) return await use(chunks[0]!.toString('utf8'));
    const whole = Buffer.concat(chunks);
    chunks.push(whole);
    return await use(whole.toString('utf8'));
  } finally {
    for (const chunk of chunks) chunk.fill(0);
    share.give();
  }
}

/** The members of a JSON object. Throws INVALID_ARGUMENT for anything else; an empty body has none. */
export function parseObject(text: string): object {
  if (text === '') return {};
  let value: unknown;
  try {
    value = JSON.parse(text);
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
