import { lp } from '../../store/canonical.js';

/** What keys and documents of databases are bound to: docs/FORMATS.md, "Databases". Each purpose has a label of its own. */

/** A database of one store: the first fields of all that follows. */
export interface DatabaseName {
  storeId: string;
  databaseId: string;
}

export interface WrappedUnder extends DatabaseName {
  kekId: string;
  kekVersion: number;
}

const SHARE = 'progressdb-kms/database-share/v1';
const DETAILS = 'progressdb-kms/database-details/v1';
const KEY = 'progressdb-kms/database-key/v1';
const CHECK = 'progressdb-kms/database-check/v1';
const DOCUMENT = 'progressdb-kms/database-document/v1';

/** Of keys that are derived from the record key, which is the database's own already. */
export const NAMES_INFO = 'progressdb-kms/database-names/v1';
export const RECORD_MAC_INFO = 'progressdb-kms/database-record-mac/v1';
export const KEK_INFO = 'progressdb-kms/database-kek/v1';

export function shareAad({ storeId, databaseId, kekId, kekVersion }: WrappedUnder): Uint8Array {
  return lp([SHARE, storeId, databaseId, kekId, kekVersion]);
}

export function detailsBinding({ storeId, databaseId, kekId, kekVersion }: WrappedUnder): { info: Uint8Array; aad: Uint8Array } {
  return { info: lp([DETAILS]), aad: lp([DETAILS, storeId, databaseId, kekId, kekVersion]) };
}

export function keyInfo({ storeId, databaseId }: DatabaseName): Uint8Array {
  return lp([KEY, storeId, databaseId]);
}

export function checkBinding({ storeId, databaseId }: DatabaseName): { info: Uint8Array; aad: Uint8Array } {
  return { info: lp([CHECK]), aad: lp([CHECK, storeId, databaseId]) };
}

/** A key for each name, so that the nonces of one key are those of one document's writes. */
export function documentBinding({ storeId, databaseId }: DatabaseName, name: string): { info: Uint8Array; aad: Uint8Array } {
  return { info: lp([DOCUMENT, name]), aad: lp([DOCUMENT, storeId, databaseId, name]) };
}
