import { KmsError } from '../errors.js';
import type { KeyMeta, KeyringDocument, KeyringSlot } from './key-store.js';

const LENGTH_BYTES = 4;

function bytesOf(field: string | number | Uint8Array): Uint8Array {
  if (typeof field === 'string') return Buffer.from(field, 'utf8');
  if (typeof field !== 'number') return field;
  // Beyond this two numbers share one decimal text, and the encoding would no longer tell them apart.
  if (!Number.isSafeInteger(field)) throw new KmsError('INVALID_ARGUMENT', 'a number to be authenticated is not a safe integer');
  return Buffer.from(String(field), 'latin1');
}

/**
 * The length-prefixed encoding of docs/FORMATS.md: four bytes of big-endian length before each field. What is
 * authenticated is this, never "the JSON", so that whitespace and member order carry no meaning.
 */
export function lp(fields: Array<string | number | Uint8Array>): Uint8Array {
  const parts = fields.map(bytesOf);
  const out = Buffer.allocUnsafe(parts.reduce((sum, part) => sum + LENGTH_BYTES + part.length, 0));
  let at = 0;
  for (const part of parts) {
    at = out.writeUInt32BE(part.length, at);
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** What `lp` made bytes of. Throws INVALID_ARGUMENT for what it cannot have made. */
export function fieldsOf(encoded: Uint8Array): Uint8Array[] {
  const bytes = Buffer.from(encoded.buffer, encoded.byteOffset, encoded.length);
  const fields: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = at + LENGTH_BYTES + (at + LENGTH_BYTES <= bytes.length ? bytes.readUInt32BE(at) : 0);
    if (end > bytes.length || at + LENGTH_BYTES > bytes.length)
      throw new KmsError('INVALID_ARGUMENT', 'fields that end too early');
    fields.push(bytes.subarray(at + LENGTH_BYTES, end));
    at = end;
  }
  return fields;
}

/** What the `mac` of a record is over. */
export function canonicalRecord(meta: Omit<KeyMeta, 'mac'>): Uint8Array {
  return lp([
    'progressdb-kms/record/v1',
    meta.format,
    meta.storeId,
    meta.keyId,
    meta.threadId,
    meta.alg,
    meta.state,
    meta.version,
    meta.wrapped,
    meta.kekId,
    meta.kekVersion,
    meta.usesReserved,
    meta.createdAt,
    meta.updatedAt,
    meta.createdBy,
  ]);
}

/** Where these stand in that, its tag being the first. */
const AT = { state: 6, wrapped: 8, createdAt: 12, createdBy: 14 } as const;

/** A view of one field of what `canonicalRecord` made, whatever comes after it. */
function fieldOf(canonical: Uint8Array, field: number): Buffer {
  const view = Buffer.from(canonical.buffer, canonical.byteOffset, canonical.length);
  let at = 0;
  for (let before = 0; before < field; before += 1) at += LENGTH_BYTES + view.readUInt32BE(at);
  const start = at + LENGTH_BYTES;
  return view.subarray(start, start + view.readUInt32BE(at));
}

/** A copy of the wrapped key. */
export function wrappedOf(canonical: Uint8Array): Uint8Array {
  return new Uint8Array(fieldOf(canonical, AT.wrapped));
}

/** What a count needs of a record. Throws a RangeError for what `canonicalRecord` did not make. */
export function glanceOf(canonical: Uint8Array): Pick<KeyMeta, 'state' | 'createdAt' | 'createdBy'> {
  const text = (field: number) => fieldOf(canonical, field).toString('latin1');
  return { state: text(AT.state) as KeyMeta['state'], createdAt: text(AT.createdAt), createdBy: text(AT.createdBy) };
}

type Fields = Array<string | number | Uint8Array>;

function slotFields(format: 1 | 2, slot: KeyringSlot): Fields {
  const added = format === 1 ? [] : [slot.kind, slot.state, slot.expiresAt];
  return [slot.slotId, ...added, slot.salt, slot.root, slot.slotKey, slot.createdAt];
}

/** What the `sha256` and the `mac` of a keyring are over. The counts keep a slot's fields from passing for a KEK's. */
export function canonicalKeyring(document: Omit<KeyringDocument, 'sha256' | 'mac'>): Uint8Array {
  const { format, slots, keks, auditKeys } = document;
  const added: Fields =
    format === 1
      ? []
      : [document.recordMac, auditKeys.length, ...auditKeys.flatMap((key) => [key.publicKey, key.wrapped, key.createdAt])];
  return lp([
    `progressdb-kms/keyring/v${format}`,
    format,
    document.storeId,
    document.generation,
    slots.length,
    ...slots.flatMap((slot) => slotFields(format, slot)),
    keks.length,
    ...keks.flatMap((kek) => [kek.kekId, kek.kekVersion, kek.state, kek.wrapped, kek.wrapsReserved, kek.createdAt]),
    ...added,
    document.defaultKeyId,
  ]);
}

/** What a wrapped DEK is bound to: pasted onto another record, or moved under another KEK, it does not unwrap. */
export type DekBinding = Pick<
  KeyMeta,
  'storeId' | 'keyId' | 'threadId' | 'alg' | 'createdAt' | 'createdBy' | 'kekId' | 'kekVersion'
>;

export function dekAad(meta: DekBinding): Uint8Array {
  return lp([
    'progressdb-kms/dek/v1',
    meta.storeId,
    meta.keyId,
    meta.threadId,
    meta.alg,
    meta.createdAt,
    meta.createdBy,
    meta.kekId,
    meta.kekVersion,
  ]);
}

export function kekAad(storeId: string, kekId: string, kekVersion: number): Uint8Array {
  return lp(['progressdb-kms/kek/v1', storeId, kekId, kekVersion]);
}

export function rootAad(storeId: string, slotId: string): Uint8Array {
  return lp(['progressdb-kms/root/v1', storeId, slotId]);
}

export function slotKeyAad(storeId: string, slotId: string): Uint8Array {
  return lp(['progressdb-kms/slot-key/v1', storeId, slotId]);
}

export function recordMacAad(storeId: string): Uint8Array {
  return lp(['progressdb-kms/record-mac-key/v1', storeId]);
}

export function auditKeyAad(storeId: string, publicKey: Uint8Array): Uint8Array {
  return lp(['progressdb-kms/audit-key/v1', storeId, publicKey]);
}
