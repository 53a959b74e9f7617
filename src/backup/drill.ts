import { join } from 'node:path';
import { KmsError } from '../errors.js';
import { Keyring } from '../kms/keyring.js';
import { DEFAULT_ARENA_BYTES, MAX_KEYRING_BYTES } from '../limits.js';
import type { SlotDescription } from '../provider.js';
import { errnoOf, type FileSystem, nodeFileSystem, READ_FLAGS, readWhole } from '../store/file-system.js';
import type { KeyringDocument } from '../store/key-store.js';
import { openMemoryStore } from '../store/memory.js';
import { type MasterSource, Vault } from '../vault.js';
import { keyringOf, scanBackup } from './verify.js';

export interface Drill {
  storeId: string;
  generation: number;
  /** KEKs that the key leads to. */
  keks: number;
  slot: SlotDescription;
}

/** Where the keyring is that a key is tried on. */
export type DrillPlace = { dataDir: string } | { backup: string };

async function documentAt(place: DrillPlace, system: FileSystem): Promise<KeyringDocument> {
  if ('backup' in place) return (await scanBackup(place.backup, system)).keyring;
  const path = join(place.dataDir, 'keyring.json');
  let fd: number;
  try {
    fd = await system.open(path, READ_FLAGS, 0);
  } catch (cause) {
    throw new KmsError('STORE_UNAVAILABLE', `${path} cannot be read: ${errnoOf(cause) || 'failure'}`, { cause });
  }
  return keyringOf(path, await readWhole(system, fd, MAX_KEYRING_BYTES).finally(() => system.close(fd)));
}

/**
 * Tries whether a key opens a keyring, and all KEKs in it. Nothing is written, no lock is taken, and a daemon may be serving the store.
 * UNAUTHENTICATED if it does not.
 */
export async function drill(place: DrillPlace, source: MasterSource, system: FileSystem = nodeFileSystem): Promise<Drill> {
  const document = await documentAt(place, system);
  const vault = Vault.open({ arenaBytes: DEFAULT_ARENA_BYTES, keptContexts: 0 }, 1);
  try {
    const keyring = Keyring.open(vault, openMemoryStore(), vault.readMaster(source), document);
    const slot = keyring.slots.find(({ inUse }) => inUse) as SlotDescription;
    return { storeId: document.storeId, generation: document.generation, keks: document.keks.length, slot };
  } finally {
    vault.close();
  }
}
