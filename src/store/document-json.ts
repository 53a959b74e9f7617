import { KmsError } from '../errors.js';
import { MAX_KEYRING_BYTES, MAX_RECORD_BYTES } from '../limits.js';
import type { KeyMeta, KeyringDocument } from './key-store.js';

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64');
}

function documentBytes(members: object, limit: number): Buffer {
  const bytes = Buffer.from(`${JSON.stringify(members, null, 2)}\n`, 'utf8');
  // A reader refuses it by its size; written, it would be a document that nobody can ever open again.
  if (bytes.length > limit) throw new KmsError('TOO_LARGE', `a document of ${bytes.length} bytes, the limit is ${limit}`);
  return bytes;
}

/** The file of a record, members in the order of docs/FORMATS.md. */
export function recordJson(meta: KeyMeta): Buffer {
  return documentBytes(
    {
      format: meta.format,
      store_id: meta.storeId,
      key_id: meta.keyId,
      thread_id: meta.threadId,
      alg: meta.alg,
      state: meta.state,
      version: meta.version,
      wrapped: base64(meta.wrapped),
      kek_id: meta.kekId,
      kek_version: meta.kekVersion,
      uses_reserved: meta.usesReserved,
      created_at: meta.createdAt,
      updated_at: meta.updatedAt,
      created_by: meta.createdBy,
      mac: base64(meta.mac),
    },
    MAX_RECORD_BYTES,
  );
}

/** The file of a keyring, of format 2. */
export function keyringJson(document: KeyringDocument): Buffer {
  return documentBytes(
    {
      format: document.format,
      store_id: document.storeId,
      generation: document.generation,
      slots: document.slots.map((slot) => ({
        slot_id: slot.slotId,
        kind: slot.kind,
        state: slot.state,
        expires_at: slot.expiresAt,
        salt: base64(slot.salt),
        root: base64(slot.root),
        slot_key: base64(slot.slotKey),
        created_at: slot.createdAt,
      })),
      keks: document.keks.map((kek) => ({
        kek_id: kek.kekId,
        kek_version: kek.kekVersion,
        state: kek.state,
        wrapped: base64(kek.wrapped),
        wraps_reserved: kek.wrapsReserved,
        created_at: kek.createdAt,
      })),
      record_mac: base64(document.recordMac),
      audit_keys: document.auditKeys.map((key) => ({
        public: base64(key.publicKey),
        wrapped: base64(key.wrapped),
        created_at: key.createdAt,
      })),
      default_key_id: document.defaultKeyId,
      sha256: Buffer.from(document.sha256).toString('hex'),
      mac: base64(document.mac),
    },
    MAX_KEYRING_BYTES,
  );
}
