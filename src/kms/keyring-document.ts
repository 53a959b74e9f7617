import { createHash, randomBytes } from 'node:crypto';
import { KmsError } from '../errors.js';
import { canonicalKeyring, kekAad } from '../store/canonical.js';
import { DamagedDocument, type KeyringDocument, type KeyringKek, type KeyStore } from '../store/key-store.js';
import type { Handle, Vault } from '../vault.js';
import type { Draft } from './root-keys.js';

export function newKekId(): string {
  return `kek_${randomBytes(16).toString('hex')}`;
}

export function newKek(vault: Vault, root: Handle, storeId: string, kekId: string, kekVersion: number, kek: Handle): KeyringKek {
  return {
    kekId,
    kekVersion,
    state: 'active',
    wrapped: vault.wrap(root, kek, kekAad(storeId, kekId, kekVersion)),
    wrapsReserved: 0,
    createdAt: new Date().toISOString(),
  };
}

export function activeOf(document: Draft): KeyringKek {
  const active = document.keks.find((kek) => kek.state === 'active');
  if (active === undefined) throw new KmsError('STORE_UNAVAILABLE', 'the keyring has no active KEK');
  return active;
}

/** The keyring of a store, undefined if it has none; a document that cannot be read is one clear STORE_UNAVAILABLE. */
export async function readKeyring(store: KeyStore): Promise<KeyringDocument | undefined> {
  let document: KeyringDocument | undefined;
  try {
    document = await store.readKeyring();
  } catch (cause) {
    if (!(cause instanceof DamagedDocument)) throw cause;
    const newer = cause.cause instanceof KmsError && cause.cause.code === 'UNSUPPORTED';
    if (newer) throw new KmsError('UNSUPPORTED', `the keyring: ${cause.message}`, { cause });
    throw new KmsError('STORE_UNAVAILABLE', `the keyring is damaged: ${cause.message}`, { cause });
  }
  if (document === undefined) return undefined;
  const sha256 = createHash('sha256').update(canonicalKeyring(document)).digest();
  if (!sha256.equals(document.sha256))
    throw new KmsError('STORE_UNAVAILABLE', 'the keyring is damaged: its checksum does not match');
  return document;
}
