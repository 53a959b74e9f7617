import { createHash } from 'node:crypto';
import { auditKeyAad, canonicalKeyring, kekAad, recordMacAad, rootAad, slotKeyAad } from '../store/canonical.js';
import type { AuditKey, KeyringDocument, KeyringSlot } from '../store/key-store.js';
import type { Handle, Vault } from '../vault.js';

const KEYRING_MAC_INFO = 'progressdb-kms/keyring-mac/v1';
const RECORD_MAC_INFO = 'progressdb-kms/record-mac/v1';

/** A root key and the key that authenticates keyrings under it. */
export interface RootKeys {
  root: Handle;
  keyringMac: Handle;
}

/** A keyring not yet authenticated. */
export type Draft = Omit<KeyringDocument, 'sha256' | 'mac'>;

export function rootKeys(vault: Vault, root: Handle, storeId: string): RootKeys {
  return { root, keyringMac: vault.derive(root, Buffer.from(storeId, 'utf8'), KEYRING_MAC_INFO, 'mac') };
}

export function releaseRoot(vault: Vault, { root, keyringMac }: RootKeys): void {
  vault.release(root);
  vault.release(keyringMac);
}

/**
 * The record MAC key was derived from the first root key, and is carried from one root key to the next: a new root key would
 * otherwise have every record written again. Format 1 does not hold it.
 */
export function deriveRecordMac(vault: Vault, firstRoot: Handle, storeId: string): Handle {
  return vault.derive(firstRoot, Buffer.from(storeId, 'utf8'), RECORD_MAC_INFO, 'mac');
}

export function sealDocument(vault: Vault, keys: RootKeys, draft: Draft): KeyringDocument {
  const canonical = canonicalKeyring(draft);
  return { ...draft, sha256: createHash('sha256').update(canonical).digest(), mac: vault.mac(keys.keyringMac, canonical) };
}

function rewrapped(
  vault: Vault,
  from: Handle,
  to: Handle,
  wrapped: Uint8Array,
  aad: Uint8Array,
  kind: 'kek' | 'mac' | 'signing',
) {
  const key = vault.unwrap(from, wrapped, aad, kind);
  try {
    return vault.wrap(to, key, aad);
  } finally {
    vault.release(key);
  }
}

function rerootedSlot(vault: Vault, from: Handle, to: Handle, storeId: string, slot: KeyringSlot): KeyringSlot {
  const aad = slotKeyAad(storeId, slot.slotId);
  const slotKey = vault.unwrap(from, slot.slotKey, aad, 'slot');
  try {
    return {
      ...slot,
      root: vault.wrap(slotKey, to, rootAad(storeId, slot.slotId)),
      slotKey: vault.wrap(to, slotKey, aad),
    };
  } finally {
    vault.release(slotKey);
  }
}

export function rerootedAuditKey(vault: Vault, from: Handle, to: Handle, storeId: string, key: AuditKey): AuditKey {
  return { ...key, wrapped: rewrapped(vault, from, to, key.wrapped, auditKeyAad(storeId, key.publicKey), 'signing') };
}

/** The same keyring under another root key. No master key is needed: each slot's key is wrapped under the root key, too. */
export function rerooted(vault: Vault, from: Handle, to: Handle, draft: Draft): Draft {
  const { storeId } = draft;
  return {
    ...draft,
    slots: draft.slots.map((slot) => rerootedSlot(vault, from, to, storeId, slot)),
    keks: draft.keks.map((kek) => {
      const aad = kekAad(storeId, kek.kekId, kek.kekVersion);
      return { ...kek, wrapped: rewrapped(vault, from, to, kek.wrapped, aad, 'kek') };
    }),
    recordMac: rewrapped(vault, from, to, draft.recordMac, recordMacAad(storeId), 'mac'),
    auditKeys: draft.auditKeys.map((key) => rerootedAuditKey(vault, from, to, storeId, key)),
  };
}
