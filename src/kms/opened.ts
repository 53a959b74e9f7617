import { KmsError } from '../errors.js';
import { DamagedDocument, type KeyStore, Superseded } from '../store/key-store.js';
import { type ArenaOptions, arenaInfo, type MasterSource, Vault } from '../vault.js';
import { KeyCache } from './key-cache.js';
import { Keyring } from './keyring.js';
import { readKeyring } from './keyring-document.js';
import { Records } from './records.js';
import type { Ring } from './ring.js';
import { Sharing } from './sharing.js';

/** How many records are asked whether they belong to the keyring's store. */
const SAMPLE = 16;

export interface OpenSettings {
  arena: ArenaOptions;
  cachedKeys: number;
  /** An empty store gets its keyring. */
  initialise: boolean;
  /** Refuse memory that cannot be locked. */
  strict: boolean;
}

/** What data keys stand on, of a store or of a database in it. */
export interface KeyGround {
  vault: Vault;
  keyring: Ring;
  records: Records;
  cache: KeyCache;
}

/** A store whose keyring is open: what is wiped at a seal and made anew at an unseal. */
export interface Opened extends KeyGround {
  keyring: Keyring;
  /** With the other daemons of its store, if there may be any. */
  sharing: Sharing | undefined;
}

/** True if there are records and every one that can be read names another store. */
async function isForeign(store: KeyStore, storeId: string): Promise<boolean> {
  let others = 0;
  for (const keyId of await store.listKeyIds(undefined, SAMPLE)) {
    try {
      const record = await store.readRecord(keyId);
      if (record?.storeId === storeId) return false;
      if (record !== undefined) others += 1;
    } catch (error) {
      if (!(error instanceof DamagedDocument)) throw error;
    }
  }
  return others > 0;
}

async function openKeyring(vault: Vault, store: KeyStore, source: MasterSource, initialise: boolean): Promise<Keyring> {
  const document = await readKeyring(store);
  if (document === undefined && (await store.listKeyIds(undefined, 1)).length > 0) {
    throw new KmsError('STORE_UNAVAILABLE', 'there are records but no keyring; put the keyring back');
  }
  if (document === undefined && !initialise) throw new KmsError('STORE_UNAVAILABLE', 'there is no keyring here');
  if (document !== undefined && (await isForeign(store, document.storeId))) {
    throw new KmsError('STORE_UNAVAILABLE', 'the keyring belongs to another store than the records beside it');
  }
  const master = vault.readMaster(source);
  try {
    if (document !== undefined) return Keyring.open(vault, store, master, document);
    return await Keyring.create(vault, store, master).catch(async (error) => {
      const made = error instanceof Superseded ? await readKeyring(store) : undefined;
      if (made === undefined) throw error;
      return Keyring.open(vault, store, master, made);
    });
  } finally {
    vault.release(master);
  }
}

async function sharingOf({ shared }: KeyStore, ground: Omit<Opened, 'sharing'>): Promise<Sharing | undefined> {
  if (shared === undefined) return undefined;
  try {
    return await Sharing.begin(shared, ground);
  } catch (error) {
    ground.cache.close();
    throw error;
  }
}

/** Opens a store under a master key. Whatever fails, no key stays in the vault. */
export async function openStore(
  store: KeyStore,
  source: MasterSource,
  settings: OpenSettings,
  onReserved: (keyId: string, usesReserved: number) => void,
): Promise<Opened> {
  const vault = Vault.open(settings.arena, settings.cachedKeys);
  try {
    if (settings.strict && arenaInfo().protection === 'none') {
      throw new KmsError('UNSUPPORTED', 'key memory cannot be locked; raise RLIMIT_MEMLOCK (LimitMEMLOCK=, ulimit -l)');
    }
    const keyring = await openKeyring(vault, store, source, settings.initialise);
    const records = new Records(vault, store, keyring);
    const ground = { vault, keyring, records, cache: new KeyCache(vault, records, keyring, onReserved, store.packed) };
    return { ...ground, sharing: await sharingOf(store, ground) };
  } catch (error) {
    vault.close();
    throw error;
  }
}
