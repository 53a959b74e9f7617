import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';

/** Hashes of 64 characters in a body. */
const PARTS = 6;

export interface ThreadBody {
  n: number;
  text: string[];
}

/** What is written under a number is told by the number: what was never written, or not as a whole, is not taken for it. */
export function bodyOf(n: number): ThreadBody {
  const text = Array.from({ length: PARTS }, (_, part) => createHash('sha256').update(`${n}/${part}`).digest('hex'));
  return { n, text };
}

/** The number of a body that is exactly what is written under it. Throws for any other value. */
export function numberOf(body: unknown): number {
  const n = (body as { n?: unknown } | null)?.n;
  if (typeof n !== 'number' || !isDeepStrictEqual(body, bodyOf(n))) {
    throw new Error(`nobody wrote ${JSON.stringify(body)?.slice(0, 200)}`);
  }
  return n;
}
