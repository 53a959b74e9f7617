import { randomFillSync } from 'node:crypto';

const ID_BYTES = 16;
/** Of the ids of keys that are made together. */
const SHARED_BYTES = 4;
/** Drawn at once: a draw costs several times what an id does. Ids are no secrets. */
const IDS = 256;

const drawn = Buffer.alloc(ID_BYTES * IDS);
let at = drawn.length;

/** A place in `drawn` with so many bytes that nobody had. */
function draw(bytes: number): number {
  if (at + bytes > drawn.length) {
    randomFillSync(drawn);
    at = 0;
  }
  at += bytes;
  return at - bytes;
}

/** `k_` and 128 random bits in hex: no two are ever the same. */
export function newKeyId(): string {
  const from = draw(ID_BYTES);
  return `k_${drawn.toString('hex', from, from + ID_BYTES)}`;
}

/**
 * The same for keys that are made together, whose first 32 bits are one draw. A store that keeps records in the order of their ids
 * writes them to the same pages then, and not to as many pages as there are keys, which is what takes the time. 96 bits of their own
 * keep them apart: of 2^40 keys made a thousand at a time, two are the same with a chance of 2^-47.
 */
export function newKeyIds(count: number): string[] {
  const from = draw(SHARED_BYTES);
  const shared = drawn.toString('hex', from, from + SHARED_BYTES);
  return Array.from({ length: count }, () => {
    const own = draw(ID_BYTES - SHARED_BYTES);
    return `k_${shared}${drawn.toString('hex', own, own + ID_BYTES - SHARED_BYTES)}`;
  });
}
