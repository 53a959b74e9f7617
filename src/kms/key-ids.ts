import { randomFillSync } from 'node:crypto';

const ID_BYTES = 16;
/** Drawn at once: a draw costs several times what an id does. Ids are no secrets. */
const IDS = 256;

const drawn = Buffer.alloc(ID_BYTES * IDS);
let at = drawn.length;

/** `k_` and 128 random bits in hex: no two are ever the same. */
export function newKeyId(): string {
  if (at === drawn.length) {
    randomFillSync(drawn);
    at = 0;
  }
  at += ID_BYTES;
  return `k_${drawn.toString('hex', at - ID_BYTES, at)}`;
}
