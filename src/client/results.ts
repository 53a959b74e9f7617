import { readBinary, readEncrypted, readItems } from '../wire/hot.js';
import { MalformedMessage, type Reader } from '../wire/reader.js';
import { KIND, type Kind } from './slots.js';

/** What an answer's promise resolves to. */
export function readResults(kind: Kind, count: number, reader: Reader, bytes: Buffer): unknown {
  if (kind === KIND.results) {
    const results: unknown[] = [];
    for (let index = 0; index < count; index++) results.push(reader.value(1));
    return results;
  }
  if (count !== (kind === KIND.encrypted || kind === KIND.sealed ? 2 : 1))
    throw new MalformedMessage('a wrong number of results');
  if (kind === KIND.encrypted) return readEncrypted(reader, bytes);
  if (kind === KIND.sealed) return readEncrypted(reader, bytes).ciphertext;
  if (kind === KIND.secret) return ownBinary(reader, bytes);
  return kind === KIND.opened ? readBinary(reader, bytes) : readItems(reader, bytes);
}

/** Whether its answers hold what is wiped once it is read. */
export function opens(kind: Kind): boolean {
  return kind === KIND.opened || kind === KIND.openedItems || kind === KIND.secret;
}

/** In memory of its own: neighbours would keep it. */
function ownBinary(reader: Reader, bytes: Buffer): Uint8Array {
  const length = reader.binLength();
  const own = new Uint8Array(new ArrayBuffer(length));
  own.set(bytes.subarray(reader.at, reader.at + length));
  reader.at += length;
  return own;
}
