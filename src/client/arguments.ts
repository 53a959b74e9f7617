import { KmsError } from '../errors.js';
import { MAX_AAD_BYTES, MAX_BATCH_ITEMS } from '../limits.js';
import type { BatchAad } from '../provider.js';

/** What both protocols check of messages before they send them: a mistake costs no round trip. */

/** Throws INVALID_ARGUMENT or TOO_LARGE. */
export function checkMessage(name: string, message: Uint8Array, limit: number, aad: Uint8Array | undefined): void {
  checkBytes(name, message, limit);
  if (aad !== undefined) checkBytes('aad', aad, MAX_AAD_BYTES);
}

/** Throws INVALID_ARGUMENT or TOO_LARGE. */
export function checkBatch(name: string, items: readonly Uint8Array[], limit: number, aad: BatchAad): void {
  if (!Array.isArray(items)) throw new KmsError('INVALID_ARGUMENT', `${name}: an array was expected`);
  if (items.length > MAX_BATCH_ITEMS) throw new KmsError('TOO_LARGE', `${name}: more than ${MAX_BATCH_ITEMS} items`);
  for (const item of items) checkBytes(name, item, limit);
  if (aad === undefined) return;
  if (aad instanceof Uint8Array) {
    checkBytes('aad', aad, MAX_AAD_BYTES);
    return;
  }
  if (!Array.isArray(aad) || aad.length !== items.length)
    throw new KmsError('INVALID_ARGUMENT', 'aad: one per item was expected');
  for (const item of aad) if (item !== undefined) checkBytes('aad', item, MAX_AAD_BYTES);
}

function checkBytes(name: string, value: Uint8Array, limit: number): void {
  if (!(value instanceof Uint8Array)) throw new KmsError('INVALID_ARGUMENT', `${name}: a Uint8Array was expected`);
  if (value.length > limit) throw new KmsError('TOO_LARGE', `${name}: more than ${limit} bytes`);
}
