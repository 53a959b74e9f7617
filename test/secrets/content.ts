import { randomBytes } from 'node:crypto';
import type { ExecutionContext } from 'ava';
import type { Collected } from './leaks.js';
import { openedStore } from './opened-store.js';
import type { Place } from './served.js';

/** Content that must not be repeated: as it is in text, and as bytes of any value. */
export function contents(): Map<string, Buffer> {
  return new Map([
    ['plaintext', Buffer.from(`the account number is ${randomBytes(12).toString('hex')}, do not tell`)],
    ['binary plaintext', randomBytes(48)],
    ['aad', Buffer.from(`belonging to ${randomBytes(12).toString('hex')}, do not tell`)],
  ]);
}

/** All that a store wraps and is wrapped in, with what was encrypted under it. */
export function secretsOf({ dataDir, masterKeyFile }: Place, content: Map<string, Buffer>): Map<string, Buffer> {
  const { keys, deks, wrapped } = openedStore(dataDir, masterKeyFile);
  const blobs = [...wrapped].map(([name, blob]) => [`wrapped ${name}`, blob] as [string, Buffer]);
  return new Map([...keys, ...deks, ...blobs, ...content]);
}

export function silent(t: ExecutionContext, collected: Collected, secrets: Map<string, Buffer>, ...said: RegExp[]): void {
  const { text } = collected;
  for (const pattern of said)
    t.true(pattern.test(text), `nobody said ${pattern}: the scenario did not go the way it was meant to`);
  t.deepEqual(collected.leaks(secrets), []);
}
