import { KmsError } from '../../errors.js';
import { DATABASE_ID_PATTERN, WRAPPED_BYTES } from '../../limits.js';
import { fieldsOf, lp } from '../../store/canonical.js';
import { DamagedDocument } from '../../store/key-store.js';

/** The server's share under one KEK, and what is known of its database, sealed under the same. */
export interface WrappedShare {
  kekId: string;
  kekVersion: number;
  share: Uint8Array;
  details: Uint8Array;
}

/** A database's own document, docs/FORMATS.md. */
export interface DatabaseDocument {
  storeId: string;
  databaseId: string;
  /** Counts its writes, from 1. */
  version: number;
  /** How often it came out of a backup. */
  restores: number;
  /** Opens under the record key alone. */
  check: Uint8Array;
  /** The first is in use; a second is what it was before a rotation moved it. */
  shares: WrappedShare[];
}

const LABEL = 'progressdb-kms/database/v1';
const ANY_LABEL = /^progressdb-kms\/database\/v\d{1,9}$/;
const MAC_BYTES = 32;
const FIELDS = 7;
const FIELDS_PER_SHARE = 4;
const MOST_SHARES = 2;

/** What its MAC is over. */
export function canonicalDatabase(document: DatabaseDocument): Uint8Array {
  const { storeId, databaseId, version, restores, check, shares } = document;
  return lp([
    LABEL,
    storeId,
    databaseId,
    version,
    restores,
    check,
    shares.length,
    ...shares.flatMap(({ kekId, kekVersion, share, details }) => [kekId, kekVersion, share, details]),
  ]);
}

export function withMac(canonical: Uint8Array, mac: Uint8Array): Uint8Array {
  return Buffer.concat([canonical, mac]);
}

/** What the MAC at the end is over, and that. */
export function macParts(bytes: Uint8Array): { canonical: Uint8Array; mac: Uint8Array } {
  const end = Math.max(0, bytes.length - MAC_BYTES);
  return { canonical: bytes.subarray(0, end), mac: bytes.subarray(end) };
}

function textOf(field: Uint8Array | undefined, pattern: RegExp): string {
  const text = Buffer.from(field ?? []).toString('latin1');
  if (!pattern.test(text)) throw new DamagedDocument('a member breaks its rule');
  return text;
}

function numberOf(field: Uint8Array | undefined): number {
  return Number(textOf(field, /^(0|[1-9]\d{0,14})$/));
}

/** Of bytes whose MAC has been checked. Throws DamagedDocument, UNSUPPORTED for a newer format. */
export function parseDatabase(canonical: Uint8Array): DatabaseDocument {
  const fields = fieldsOf(canonical);
  const label = textOf(fields[0], ANY_LABEL);
  if (label !== LABEL) throw new KmsError('UNSUPPORTED', `the document of a database is a newer one: ${label}`);
  const count = numberOf(fields[6]);
  if (count < 1 || count > MOST_SHARES || fields.length !== FIELDS + count * FIELDS_PER_SHARE) {
    throw new DamagedDocument('it has another number of members');
  }
  return {
    storeId: textOf(fields[1], DATABASE_ID_PATTERN),
    databaseId: textOf(fields[2], DATABASE_ID_PATTERN),
    version: numberOf(fields[3]),
    restores: numberOf(fields[4]),
    check: fields[5] as Uint8Array,
    shares: Array.from({ length: count }, (_, index) => shareOf(fields.slice(FIELDS + index * FIELDS_PER_SHARE))),
  };
}

function shareOf([kekId, kekVersion, share, details]: Uint8Array[]): WrappedShare {
  if (share?.length !== WRAPPED_BYTES || details === undefined) throw new DamagedDocument('a share has another length');
  return { kekId: textOf(kekId, /^kek_[0-9a-f]{32}$/), kekVersion: numberOf(kekVersion), share, details };
}
