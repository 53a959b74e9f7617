import { KmsError } from '../../errors.js';
import { DamagedDocument } from '../../store/key-store.js';

const LENGTH_BYTES = 4;

/** Four bytes of length, the content, zeros: what is sealed then says nothing by its length. */
export function padded(content: Uint8Array, size: number): Uint8Array {
  if (LENGTH_BYTES + content.length > size) throw new KmsError('INTERNAL', 'more than a sealed document holds');
  const out = Buffer.alloc(size);
  out.writeUInt32BE(content.length, 0);
  out.set(content, LENGTH_BYTES);
  return out;
}

export function unpadded(document: Uint8Array): Uint8Array {
  const bytes = Buffer.from(document.buffer, document.byteOffset, document.length);
  const length = bytes.length < LENGTH_BYTES ? 0 : bytes.readUInt32BE(0);
  if (LENGTH_BYTES + length > bytes.length) throw new DamagedDocument('it is shorter than it says');
  return bytes.subarray(LENGTH_BYTES, LENGTH_BYTES + length);
}
