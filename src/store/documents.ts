import { ERROR_TABLE, KmsError } from '../errors.js';
import { DamagedDocument } from './key-store.js';

/** A refusal of the strict reader, as what it means here: the document is not what the service wrote. */
export function strictly<T>(parse: (bytes: Uint8Array) => T, bytes: Uint8Array): T {
  try {
    return parse(bytes);
  } catch (error) {
    if (!(error instanceof KmsError)) throw error;
    const prefix = `${ERROR_TABLE[error.code].message}: `;
    const reason = error.message.startsWith(prefix) ? error.message.slice(prefix.length) : error.message;
    throw new DamagedDocument(reason, { cause: error });
  }
}

/** The bytes, once the strict reader took them: written, what it refuses would be a document that nobody can open again. */
export function readable(parse: (bytes: Uint8Array) => unknown, bytes: Uint8Array): Uint8Array {
  try {
    parse(bytes);
    return bytes;
  } catch (cause) {
    throw new KmsError('INTERNAL', 'a document that could not be read back was not written', { cause });
  }
}
