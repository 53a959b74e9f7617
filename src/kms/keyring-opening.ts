import { randomBytes } from 'node:crypto';
import { KmsError } from '../errors.js';
import { canonicalKeyring, kekAad, recordMacAad } from '../store/canonical.js';
import type { KeyringDocument, KeyStore } from '../store/key-store.js';
import type { Handle, Vault } from '../vault.js';
import { newKek, newKekId } from './keyring-document.js';
import { deriveRecordMac, type RootKeys, rootKeys, sealDocument } from './root-keys.js';
import { FIRST_SLOT, makeSlot, openSlots } from './slots.js';

/** A keyring with its keys in the vault. */
export interface OpenKeyring {
  keys: RootKeys;
  recordMac: Handle;
  usedSlot: string;
  document: KeyringDocument;
  keks: Map<string, Handle>;
}

/** Makes the first keyring of a store: one slot, a root key, KEK version 1. Durable when it resolves. */
export async function createKeyring(vault: Vault, store: KeyStore, master: Handle): Promise<OpenKeyring> {
  const storeId = randomBytes(16).toString('hex');
  const keys = rootKeys(vault, vault.generate('root'), storeId);
  const recordMac = deriveRecordMac(vault, keys.root, storeId);
  const slot = makeSlot(vault, master, keys.root, storeId, FIRST_SLOT);
  const handle = vault.generate('kek');
  const kek = newKek(vault, keys.root, storeId, newKekId(), 1, handle);
  const document = sealDocument(vault, keys, {
    format: 2,
    storeId,
    generation: 1,
    slots: [slot],
    keks: [kek],
    recordMac: vault.wrap(keys.root, recordMac, recordMacAad(storeId)),
    auditKeys: [],
    defaultKeyId: '',
  });
  await store.writeKeyring(document, { before: 0 });
  return { keys, recordMac, usedSlot: slot.slotId, document, keks: new Map([[kek.kekId, handle]]) };
}

/** Opens a document that `readKeyring` gave. Throws UNAUTHENTICATED for a wrong master key, STORE_UNAVAILABLE if it was tampered with. */
export function openKeyring(vault: Vault, master: Handle, document: KeyringDocument): OpenKeyring {
  const { storeId } = document;
  const { slotId, root } = openSlots(vault, master, document);
  const keys = rootKeys(vault, root, storeId);
  if (!vault.macMatches(keys.keyringMac, canonicalKeyring(document), document.mac)) {
    throw new KmsError('STORE_UNAVAILABLE', 'the keyring was tampered with: its authentication code does not match');
  }
  const recordMac =
    document.format === 1
      ? deriveRecordMac(vault, root, storeId)
      : vault.unwrap(root, document.recordMac, recordMacAad(storeId), 'mac');
  const keks = document.keks.map(({ kekId, kekVersion, wrapped }): [string, Handle] => {
    return [kekId, vault.unwrap(root, wrapped, kekAad(storeId, kekId, kekVersion), 'kek')];
  });
  return { keys, recordMac, usedSlot: slotId, document, keks: new Map(keks) };
}
