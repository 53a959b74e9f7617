import type { IncomingMessage } from 'node:http';

const HEADER = 'kmsdatabasesecret';

/**
 * The secret of the database that a request is in, as bytes for whoever wipes them; undefined for none. The header itself is a string,
 * which nobody can wipe (docs/SECURITY.md): the request forgets it here, so that nothing else comes to hold on to it.
 */
export function takeSecret({ headers, rawHeaders }: IncomingMessage): Uint8Array | undefined {
  const text = headers[HEADER];
  if (typeof text !== 'string') return undefined;
  delete headers[HEADER];
  for (let at = 0; at < rawHeaders.length; at += 2) if (rawHeaders[at]!.toLowerCase() === HEADER) rawHeaders[at + 1] = '';
  // In memory of its own: V8 moves small arrays, and leaves copies of them behind.
  const secret = Buffer.from(new ArrayBuffer(text.length));
  secret.write(text, 'latin1');
  return secret;
}
