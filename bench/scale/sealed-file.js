// One sealed message for each key, in a file that the load generator maps: bench/scatter.c reads the same layout.
import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs';

/** `k_` and 32 digits, as `createDekForThread` draws them. */
export const ID_BYTES = 34;
export const PLAINTEXT_BYTES = 64;
export const SEALED_BYTES = PLAINTEXT_BYTES + 28;
export const ENTRY_BYTES = ID_BYTES + SEALED_BYTES;
export const AAD = Buffer.alloc(32, 'a');

const WORDS = PLAINTEXT_BYTES / 4;
const STEP = 0x9e3779b9;

/** What the n-th key has sealed: no two have the same, and nobody has to keep them. */
export function plaintextOf(n, into) {
  for (let i = 0; i < WORDS; i++) into.writeUInt32LE((n ^ Math.imul(i + 1, STEP)) >>> 0, i * 4);
  return into;
}

export class SealedFile {
  #fd;
  #entries;

  constructor(path) {
    this.#fd = openSync(path, 'a+', 0o600);
    this.#entries = fstatSync(this.#fd).size / ENTRY_BYTES;
  }

  get entries() {
    return this.#entries;
  }

  append(entries) {
    writeSync(this.#fd, entries);
    this.#entries += entries.length / ENTRY_BYTES;
  }

  /** `{keyId, sealed, index}` of the n-th. */
  at(index) {
    const entry = Buffer.allocUnsafe(ENTRY_BYTES);
    if (readSync(this.#fd, entry, 0, ENTRY_BYTES, index * ENTRY_BYTES) !== ENTRY_BYTES) throw new Error('the file is too short');
    return { index, keyId: entry.toString('latin1', 0, ID_BYTES), sealed: entry.subarray(ID_BYTES) };
  }

  close() {
    closeSync(this.#fd);
  }
}
