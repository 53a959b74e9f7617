import type { KeyMeta, KeyringDocument } from './key-store.js';

// Documents are copied in and out: a caller that changes its own must not have changed the store. Field by field, since a
// structured clone of a small Buffer takes the whole pool along that it is a view of.

export function copyOfRecord(record: KeyMeta): KeyMeta {
  return { ...record, wrapped: new Uint8Array(record.wrapped), mac: new Uint8Array(record.mac) };
}

export function copyOfKeyring(document: KeyringDocument): KeyringDocument {
  return {
    ...document,
    slots: document.slots.map((slot) => ({
      ...slot,
      salt: new Uint8Array(slot.salt),
      root: new Uint8Array(slot.root),
      slotKey: new Uint8Array(slot.slotKey),
    })),
    keks: document.keks.map((kek) => ({ ...kek, wrapped: new Uint8Array(kek.wrapped) })),
    recordMac: new Uint8Array(document.recordMac),
    auditKeys: document.auditKeys.map((key) => ({
      ...key,
      publicKey: new Uint8Array(key.publicKey),
      wrapped: new Uint8Array(key.wrapped),
    })),
    sha256: new Uint8Array(document.sha256),
    mac: new Uint8Array(document.mac),
  };
}
