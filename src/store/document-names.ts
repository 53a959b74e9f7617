import { KmsError } from '../errors.js';
import { DATABASE_ID_PATTERN, MAX_SEALED_DOCUMENT_BYTES, SEALED_NAME_PATTERN } from '../limits.js';

/** Of a document: its database, and its own name where it is in one. Throws INVALID_ARGUMENT for what is no name. */
export function partsOf(name: string): [database: string, inner: string | undefined] {
  const found = SEALED_NAME_PATTERN.exec(name);
  if (found === null) throw new KmsError('INVALID_ARGUMENT', 'not the name of a sealed document');
  return [found[1] as string, found[2]];
}

/** The database whose documents a prefix asks for; undefined for the databases themselves. */
export function databaseOfPrefix(prefix: string): string | undefined {
  if (prefix === '') return undefined;
  const database = prefix.slice(0, -1);
  if (prefix.endsWith('/') && DATABASE_ID_PATTERN.test(database)) return database;
  throw new KmsError('INVALID_ARGUMENT', 'not a prefix of sealed documents');
}

export function refuseLong(document: Uint8Array): void {
  if (document.length > MAX_SEALED_DOCUMENT_BYTES) throw new KmsError('TOO_LARGE', 'a sealed document');
}

/** Throws CONFLICT unless what is there is what the writer has read. */
export function refuseUnlessSame(current: Uint8Array | undefined, before: Uint8Array | undefined): void {
  const isSame = current === undefined ? before === undefined : before !== undefined && Buffer.compare(current, before) === 0;
  if (!isSame) throw new KmsError('CONFLICT', 'the sealed document is another one by now');
}

export function noDatabase(): KmsError {
  return new KmsError('CONFLICT', 'the database is gone');
}
