import { KmsError } from '../errors.js';
import {
  KEY_ID_PATTERN,
  MAX_KEYRING_BYTES,
  MAX_LEFT_OUT,
  MAX_RECORD_BYTES,
  MAX_SEALED_DOCUMENT_BYTES,
  MAX_TOKEN_FILE_BYTES,
  SEALED_NAME_PATTERN,
} from '../limits.js';
import { fieldsOf, lp } from '../store/canonical.js';

/** The layout of docs/FORMATS.md as data. */

export const MAGIC = Buffer.from('\x03pkb', 'latin1');
/** The second has databases: who does not know of them must refuse it by name, and not restore a part of it. */
export type Version = 1 | 2;
/** The byte after the magic ones, by version. */
export const VERSION_BYTES: Readonly<Record<Version, number>> = { 1: '1'.charCodeAt(0), 2: '2'.charCodeAt(0) };
export const MAC_INFO = 'progressdb-kms/backup-mac/v1';
/** Type and length before each entry. */
export const ENTRY_HEADER_BYTES = 5;
export const DIGEST_BYTES = 32;
const MAC_BYTES = 32;
/** The name of a document, and two lengths. */
const MAX_NAME_BYTES = 128;

export type EntryName = 'record' | 'document' | 'keyring' | 'tokens' | 'audit' | 'manifest' | 'seal';

interface EntryRule {
  type: number;
  /** Entries stand in the order of their places; of a place there is one entry, of records and documents any number. */
  place: number;
  maxBytes: number;
}

function rule(type: string, place: number, maxBytes: number): EntryRule {
  return { type: type.charCodeAt(0), place, maxBytes };
}

export const ENTRIES: Readonly<Record<EntryName, EntryRule>> = {
  record: rule('R', 0, MAX_RECORD_BYTES),
  document: rule('D', 1, MAX_SEALED_DOCUMENT_BYTES + MAX_NAME_BYTES),
  keyring: rule('K', 2, MAX_KEYRING_BYTES),
  tokens: rule('T', 3, MAX_TOKEN_FILE_BYTES),
  // A checkpoint line in JSON, and its quotes escaped.
  audit: rule('A', 4, 32 * 1024),
  manifest: rule('M', 5, 64 * 1024),
  seal: rule('S', 6, DIGEST_BYTES + MAC_BYTES),
};

export function isRepeated(name: EntryName): boolean {
  return name === 'record' || name === 'document';
}

/** A document of a database, as the store has it. */
export interface BackedUpDocument {
  name: string;
  document: Uint8Array;
}

export function documentBytes({ name, document }: BackedUpDocument): Uint8Array {
  return lp([name, document]);
}

/** Throws INVALID_ARGUMENT for what is none. */
export function parseDocument(bytes: Uint8Array): BackedUpDocument {
  const [name, document, ...more] = fieldsOf(bytes);
  const text = Buffer.from(name ?? []).toString('latin1');
  if (document === undefined || more.length > 0 || !SEALED_NAME_PATTERN.test(text)) {
    throw new KmsError('INVALID_ARGUMENT', 'it is no document of a database');
  }
  return { name: text, document };
}

/** How a database is named where a backup names keys. */
export function nameOfDatabase(databaseId: string): string {
  return `database ${databaseId}`;
}

export interface Manifest {
  version: Version;
  storeId: string;
  generation: number;
  createdAt: string;
  createdBy: string;
  records: number;
  /** Of databases. */
  documents: number;
  /** Keys whose records were damaged already, and databases. */
  leftOut: readonly string[];
}

/** How far the audit log was when the keyring was read. */
export interface AuditHead {
  seq: number;
  /** SHA-256 of the line, in hex. */
  sha256: string;
  /** The newest signed line, as it stands in the log; null if none was found. */
  checkpoint: string | null;
}

/** What the MAC is over. */
export function canonicalBackup({ storeId, generation }: Manifest, digest: Uint8Array): Uint8Array {
  return lp(['progressdb-kms/backup/v1', storeId, generation, digest]);
}

export function manifestJson(manifest: Manifest): Buffer {
  return Buffer.from(
    JSON.stringify({
      format: manifest.version,
      store_id: manifest.storeId,
      generation: manifest.generation,
      created_at: manifest.createdAt,
      created_by: manifest.createdBy,
      records: manifest.records,
      ...(manifest.version === 2 && { documents: manifest.documents }),
      left_out: manifest.leftOut,
    }),
  );
}

export function auditHeadJson({ seq, sha256, checkpoint }: AuditHead): Buffer {
  return Buffer.from(JSON.stringify({ seq, sha256, checkpoint }));
}

/** A backup that is not what `backup create` wrote. */
export function damaged(path: string, reason: string, cause?: unknown): KmsError {
  return new KmsError('INVALID_ARGUMENT', `${path} is damaged: ${reason}`, { cause });
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const isText = (pattern: RegExp) => (value: unknown) => typeof value === 'string' && pattern.test(value);
const isKeyId = isText(KEY_ID_PATTERN);
const isDatabase = isText(/^database [0-9a-f]{32}$/);
const isHash = isText(/^[0-9a-f]{64}$/);

type Rules = Record<string, (value: unknown) => boolean>;

const MANIFEST_RULES: Rules = {
  format: (value) => value === 1,
  store_id: isText(/^[0-9a-f]{32}$/),
  generation: isCount,
  created_at: isText(/^[0-9TZ:.-]{24}$/),
  created_by: isText(/^[A-Za-z0-9._:@/-]{1,64}$/),
  records: isCount,
  left_out: (value) => Array.isArray(value) && value.length <= MAX_LEFT_OUT && value.every(isKeyId),
};

const MANIFEST_RULES_2: Rules = {
  ...MANIFEST_RULES,
  format: (value) => value === 2,
  documents: isCount,
  left_out: (value) =>
    Array.isArray(value) && value.length <= MAX_LEFT_OUT && value.every((one) => isKeyId(one) || isDatabase(one)),
};

const AUDIT_RULES: Rules = {
  seq: isCount,
  sha256: isHash,
  checkpoint: (value) => value === null || typeof value === 'string',
};

function members(path: string, name: string, bytes: Uint8Array, rules: Rules): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch (cause) {
    throw damaged(path, `its ${name} is no JSON`, cause);
  }
  const found = typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  const names = Object.keys(rules);
  const isRight = names.length === Object.keys(found).length && names.every((one) => rules[one]?.(found[one]));
  if (!isRight) throw damaged(path, `its ${name} breaks a rule`);
  return found;
}

export function parseManifest(path: string, version: Version, bytes: Uint8Array): Manifest {
  const found = members(path, 'manifest', bytes, version === 1 ? MANIFEST_RULES : MANIFEST_RULES_2);
  return {
    version,
    storeId: found['store_id'] as string,
    generation: found['generation'] as number,
    createdAt: found['created_at'] as string,
    createdBy: found['created_by'] as string,
    records: found['records'] as number,
    documents: version === 1 ? 0 : (found['documents'] as number),
    leftOut: found['left_out'] as string[],
  };
}

export function parseAuditHead(path: string, bytes: Uint8Array): AuditHead {
  return members(path, 'audit head', bytes, AUDIT_RULES) as unknown as AuditHead;
}
