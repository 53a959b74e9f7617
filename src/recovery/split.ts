import { randomFillSync } from 'node:crypto';
import { combine, split } from 'shamir-secret-sharing';
import { KmsError } from '../errors.js';
import { KEY_BYTES, MAX_SHARES } from '../limits.js';
import type { Share } from './share.js';

/**
 * The only place where a recovery key and its shares are in JavaScript. Only short-lived commands come here that hold no
 * other key, and they wipe what they were given.
 */

export function checkSplit(shares: number, threshold: number): void {
  if (threshold < 2) throw new KmsError('INVALID_ARGUMENT', 'a threshold of at least 2: a single share would be the key itself');
  if (threshold > shares)
    throw new KmsError('INVALID_ARGUMENT', `${threshold} shares are more than the ${shares} that there are`);
  if (shares > MAX_SHARES) throw new KmsError('INVALID_ARGUMENT', `at most ${MAX_SHARES} shares`);
}

export function makeKey(): Uint8Array {
  return randomFillSync(new Uint8Array(new ArrayBuffer(KEY_BYTES)));
}

/** Splits a key; any `threshold` of the `shares` make it again. */
export async function splitKey(key: Uint8Array, slot: string, shares: number, threshold: number): Promise<Share[]> {
  checkSplit(shares, threshold);
  const parts = await split(key, shares, threshold);
  return parts.map((bytes, index) => ({ slot, threshold, number: index + 1, bytes }));
}

/** The key of as many shares as it takes. INVALID_ARGUMENT if they are too few, the same, or of different keys. */
export async function joinShares(shares: readonly Share[]): Promise<Uint8Array> {
  const [first] = shares;
  if (first === undefined) throw new KmsError('INVALID_ARGUMENT', 'no share was given');
  const seen = new Set<number>();
  for (const { slot, threshold, number } of shares) {
    if (slot !== first.slot || threshold !== first.threshold) {
      throw new KmsError('INVALID_ARGUMENT', `share ${number} is of another recovery key than share ${first.number}`);
    }
    if (seen.has(number)) throw new KmsError('INVALID_ARGUMENT', `share ${number} was given twice`);
    seen.add(number);
  }
  if (shares.length < first.threshold) {
    throw new KmsError(
      'INVALID_ARGUMENT',
      `${first.threshold} shares are needed, and ${shares.length} ${shares.length === 1 ? 'was' : 'were'} given`,
    );
  }
  return await combine(shares.slice(0, first.threshold).map(({ bytes }) => bytes));
}
