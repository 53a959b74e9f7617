import { KmsError } from '../errors.js';
import { canonicalKeyring, kekAad, rootAad, slotKeyAad } from '../store/canonical.js';
import type { KeyringDocument } from '../store/key-store.js';
import type { Handle, Vault } from '../vault.js';
import { type RootKeys, releaseRoot, rootKeys } from './root-keys.js';

/** A keyring that is open, as far as the next one is opened by it. */
export interface Known {
  keys: RootKeys;
  document: KeyringDocument;
  keks: ReadonlyMap<string, Handle>;
  usedSlot: string;
}

export interface Followed {
  keys: RootKeys;
  keks: Map<string, Handle>;
}

function isBehind(vault: Vault, { keyringMac }: RootKeys, document: KeyringDocument): boolean {
  return vault.macMatches(keyringMac, canonicalKeyring(document), document.mac);
}

/**
 * Another root key is opened by the slot that this process was opened with. Its key stands in the document before, under the root
 * key that is known, so that no master key is needed; a document with another root key that this slot does not open, or
 * that has no such slot, was made to keep us out.
 */
function nextRoot(vault: Vault, { keys, document, usedSlot }: Known, next: KeyringDocument): RootKeys {
  const { storeId } = document;
  const before = document.slots.find(({ slotId }) => slotId === usedSlot);
  const after = next.slots.find(({ slotId }) => slotId === usedSlot);
  if (before === undefined || after === undefined) {
    throw new KmsError('UNAUTHENTICATED', 'the slot that this process was opened with was removed from the keyring');
  }
  const slotKey = vault.unwrap(keys.root, before.slotKey, slotKeyAad(storeId, usedSlot), 'slot');
  try {
    return rootKeys(vault, vault.unwrap(slotKey, after.root, rootAad(storeId, usedSlot), 'root'), storeId);
  } finally {
    vault.release(slotKey);
  }
}

function rootOf(vault: Vault, known: Known, next: KeyringDocument): RootKeys {
  if (isBehind(vault, known.keys, next)) return known.keys;
  const keys = nextRoot(vault, known, next);
  if (isBehind(vault, keys, next)) return keys;
  releaseRoot(vault, keys);
  throw new KmsError('STORE_UNAVAILABLE', 'the keyring was tampered with: its authentication code does not match');
}

/**
 * Opens what another daemon has made of the keyring: keys that are known stay the handles that they were. Undefined for the
 * document that is known. Throws, with nothing left in the vault, for one that is older, foreign, or not authentic.
 */
export function follow(vault: Vault, known: Known, next: KeyringDocument): Followed | undefined {
  const { document } = known;
  if (next.storeId !== document.storeId) throw new KmsError('STORE_UNAVAILABLE', 'the keyring is that of another store by now');
  if (next.generation < document.generation) {
    const generations = `generation ${next.generation} after ${document.generation}`;
    throw new KmsError('STORE_UNAVAILABLE', `the keyring is older than the one before it (${generations}): somebody put it back`);
  }
  if (next.generation === document.generation) {
    if (Buffer.compare(next.mac, document.mac) === 0) return undefined;
    throw new KmsError(
      'STORE_UNAVAILABLE',
      `there is another keyring of generation ${next.generation}: somebody put an older one back`,
    );
  }
  const keys = rootOf(vault, known, next);
  const made: Handle[] = [];
  try {
    const keks = new Map<string, Handle>();
    for (const { kekId, kekVersion, wrapped } of next.keks) {
      const handle = known.keks.get(kekId) ?? vault.unwrap(keys.root, wrapped, kekAad(next.storeId, kekId, kekVersion), 'kek');
      if (!known.keks.has(kekId)) made.push(handle);
      keks.set(kekId, handle);
    }
    return { keys, keks };
  } catch (error) {
    for (const handle of made) vault.release(handle);
    if (keys !== known.keys) releaseRoot(vault, keys);
    throw error;
  }
}
