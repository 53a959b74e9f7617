import { randomBytes } from 'node:crypto';
import { KmsError } from '../errors.js';
import { INLINE_BYTES, NONCE_BYTES, SEALED_HEADER_BYTES, TAG_BYTES } from '../limits.js';
import type { Provider } from '../provider.js';
import { lp } from '../store/canonical.js';

/** The two calls of a provider that file encryption needs. */
export interface Sealer {
  encrypt(plaintext: Uint8Array, aad?: Uint8Array): Promise<Uint8Array>;
  decrypt(sealed: Uint8Array, aad?: Uint8Array): Promise<Uint8Array>;
}

/** The key ids that fit into a header: those made here, not imported ones. */
const MADE_KEY_ID = /^k_[0-9a-f]{32}$/;

export const CHUNK_BYTES = INLINE_BYTES;
const CHUNK_OVERHEAD = SEALED_HEADER_BYTES + NONCE_BYTES + TAG_BYTES;
const SEALED_CHUNK_BYTES = CHUNK_BYTES + CHUNK_OVERHEAD;
const BLOB_VERSION = 0x01;
const MAGIC = Buffer.from('\x02pkf1', 'latin1');
const FILE_ID_BYTES = 16;
const CHUNK_DOMAIN = 'progressdb-kms/file/v1';
/** Enough to hide a round trip behind the sealing of the others; more only costs memory. */
const IN_FLIGHT = 8;

interface Piece {
  bytes: Buffer;
  last: boolean;
}

/**
 * The sealed form of everything `source` yields, in the form of docs/FORMATS.md, "Files": one blob if it fits into a
 * chunk, else the chunked form. Memory does not depend on the size.
 */
export async function* sealFile(source: AsyncIterable<Uint8Array>, sealer: Sealer): AsyncGenerator<Uint8Array> {
  const pieces = cut(source, CHUNK_BYTES);
  const first = await pieces.next();
  const head: Piece = first.done ? { bytes: Buffer.alloc(0), last: true } : first.value;
  if (head.last) {
    yield await sealer.encrypt(head.bytes);
    return;
  }
  const fileId = randomBytes(FILE_ID_BYTES);
  yield Buffer.concat([MAGIC, fileId]);
  yield* inOrder(prepended(head, pieces), ({ bytes, last }, index) => sealer.encrypt(bytes, chunkAad(fileId, index, last)));
}

/**
 * The plaintext of a sealed file, each chunk only once it is authenticated. Throws AUTHENTICATION_FAILED where the file was
 * cut, reordered, spliced or changed: what was yielded before is genuine, but not the whole.
 */
export async function* openFile(source: AsyncIterable<Uint8Array>, sealer: Sealer): AsyncGenerator<Uint8Array> {
  const input = new HeadReader(source);
  const version = (await input.take(1))[0];
  if (version === BLOB_VERSION) {
    yield await openBlob(input, sealer);
    return;
  }
  if (version !== MAGIC[0]) throw notSealed();
  const rest = await input.take(MAGIC.length - 1);
  if (!rest.equals(MAGIC.subarray(1))) throw unknownFormat(rest);
  const fileId = await input.take(FILE_ID_BYTES);
  if (fileId.length < FILE_ID_BYTES) throw new KmsError('AUTHENTICATION_FAILED');

  let ended = false;
  for await (const chunk of inOrder(cut(input.remaining(), SEALED_CHUNK_BYTES), openChunk)) {
    ended = true;
    yield chunk;
  }
  if (!ended) throw new KmsError('AUTHENTICATION_FAILED');

  function openChunk({ bytes, last }: Piece, index: number): Promise<Uint8Array> {
    // Of this form are only files of more than one chunk, and none of them is empty.
    if (last && (index === 0 || bytes.length <= CHUNK_OVERHEAD)) throw new KmsError('AUTHENTICATION_FAILED');
    // A chunk is the last one exactly when the file ends after it. One that was cut off says "0" in its AAD and fails here.
    return sealer.decrypt(bytes, chunkAad(fileId, index, last));
  }
}

/** Seals under `keyId` instead of the default key; the form is the same, since its header names the key. */
export function sealerUnder(keyId: string, provider: Provider): Sealer {
  if (!MADE_KEY_ID.test(keyId)) {
    throw new KmsError('INVALID_ARGUMENT', 'files are encrypted under keys that were made here: k_ and 32 hex digits');
  }
  const header = Buffer.from(`01${keyId.slice(2)}`, 'hex');
  return {
    async encrypt(plaintext, aad = new Uint8Array(0)) {
      const { ciphertext } = await provider.encryptWithDek(keyId, plaintext, Buffer.concat([header, aad]));
      return Buffer.concat([header, ciphertext]);
    },
    decrypt: (sealed, aad) => provider.decrypt(sealed, aad),
  };
}

/** How long the sealed form of `size` bytes is. */
export function sealedSize(size: number): number {
  const chunks = Math.max(1, Math.ceil(size / CHUNK_BYTES));
  return size + chunks * CHUNK_OVERHEAD + (chunks > 1 ? MAGIC.length + FILE_ID_BYTES : 0);
}

async function openBlob(input: HeadReader, sealer: Sealer): Promise<Uint8Array> {
  const blob = Buffer.concat([Buffer.of(BLOB_VERSION), await input.take(SEALED_CHUNK_BYTES)]);
  // No blob of this form is longer or shorter; what follows or lacks was not written by sealFile.
  if (blob.length > SEALED_CHUNK_BYTES || blob.length < CHUNK_OVERHEAD) throw new KmsError('AUTHENTICATION_FAILED');
  return sealer.decrypt(blob);
}

function chunkAad(fileId: Uint8Array, index: number, last: boolean): Uint8Array {
  return lp([CHUNK_DOMAIN, fileId, index, last ? '1' : '0']);
}

function notSealed(): KmsError {
  return new KmsError('INVALID_ARGUMENT', 'the input is not a file that progressdb-kms encrypted');
}

function unknownFormat(rest: Buffer): KmsError {
  const name = rest.toString('latin1');
  if (!/^pkf[0-9]$/.test(name)) return notSealed();
  return new KmsError('UNSUPPORTED', `the file has the format ${name}, which is newer than this version reads`);
}

/** Cuts a stream into pieces of exactly `size` bytes, but for the last; yields nothing for an empty stream. */
async function* cut(source: AsyncIterable<Uint8Array>, size: number): AsyncGenerator<Piece, undefined> {
  let piece = Buffer.allocUnsafeSlow(size);
  let filled = 0;
  for await (const data of source) {
    for (let from = 0; from < data.length; ) {
      // A full piece waits for one more byte: only then it is known not to be the last.
      if (filled === size) {
        yield { bytes: piece, last: false };
        piece = Buffer.allocUnsafeSlow(size);
        filled = 0;
      }
      const count = Math.min(size - filled, data.length - from);
      piece.set(data.subarray(from, from + count), filled);
      filled += count;
      from += count;
    }
  }
  if (filled > 0) yield { bytes: piece.subarray(0, filled), last: true };
}

async function* prepended(head: Piece, pieces: AsyncGenerator<Piece, undefined>): AsyncGenerator<Piece> {
  yield head;
  yield* pieces;
}

/** Runs `work` on several pieces at once and yields the results in the order of the pieces. */
async function* inOrder(
  pieces: AsyncIterable<Piece>,
  work: (piece: Piece, index: number) => Promise<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  const underWay: Promise<Uint8Array>[] = [];
  let index = 0;
  try {
    for await (const piece of pieces) {
      const result = work(piece, index++);
      // The failure is met when its turn comes; until then it must not count as unhandled.
      result.catch(() => {});
      underWay.push(result);
      if (underWay.length >= IN_FLIGHT) yield await (underWay.shift() as Promise<Uint8Array>);
    }
    for (let next = underWay.shift(); next !== undefined; next = underWay.shift()) yield await next;
  } finally {
    // Nobody may still use the provider, or these buffers, once the generator has ended.
    await Promise.allSettled(underWay);
  }
}

/** Takes bytes off the front of a stream, then hands on what is left of it. */
class HeadReader {
  readonly #source: AsyncIterator<Uint8Array>;
  #held: Uint8Array = new Uint8Array(0);

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** `count` bytes, fewer only at the end of the stream. */
  async take(count: number): Promise<Buffer> {
    const parts: Uint8Array[] = [];
    for (let missing = count; missing > 0; ) {
      if (this.#held.length === 0) {
        const next = await this.#source.next();
        if (next.done) break;
        this.#held = next.value;
      }
      const part = this.#held.subarray(0, missing);
      this.#held = this.#held.subarray(part.length);
      missing -= part.length;
      parts.push(part);
    }
    return Buffer.concat(parts);
  }

  async *remaining(): AsyncGenerator<Uint8Array> {
    yield this.#held;
    yield* { [Symbol.asyncIterator]: () => this.#source };
  }
}
