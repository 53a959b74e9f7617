import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { KmsError } from '../errors.js';
import { binding } from '../native.js';
import { daemonIdIn } from '../store/daemon-id.js';
import { keyringJson } from '../store/document-json.js';
import { nodeFileSystem as system } from '../store/file-system.js';
import type { KeyStore, StoredEntries, StoreKind } from '../store/key-store.js';
import { leftOfMigration, openStore, storeKindIn } from '../store/kind.js';
import { MARKER, mark, markedKind } from '../store/marker.js';
import { checkPostgresSettings, openPostgres, type PostgresSettings } from '../store/postgres-settings.js';
import { compareDocuments, copyDocuments } from './moved-documents.js';
import { compareEntries, copyEntries, type MovedEntries } from './moved-entries.js';
import { syncDirectory } from './target.js';

export interface MigrateOptions {
  dataDir: string;
  to: StoreKind | PostgresSettings;
  /** Begins a step, and is called for each of its records: of all of them, the old store's. */
  onStep?: (step: 'copying' | 'comparing', records: number) => () => void;
}

export interface Migrated extends MovedEntries {
  from: StoreKind;
  to: StoreKind | 'postgres';
  /** Of client-sealed databases. */
  documents: number;
  /** Records, what is kept of rotations, and documents that were not there from a migration that was cut off. */
  written: number;
}

/**
 * Copies the store of a data directory to one of another kind beside it, proves that they are the same, and makes that the live
 * one. CONFLICT while somebody has the directory, or if it is of that kind already; STORE_UNAVAILABLE for a record that is damaged.
 *
 * Crash story: before anything is copied the marker says durably that the old store is the live one, so that no start takes the
 * unfinished one for it. Everything is put durably, and each as a whole. Only when all of both has been read back and compared the
 * marker is replaced, by one rename: a crash before that leaves the old store live and as it was, and the next migration goes by what
 * it finds in the new one, writing what is missing or another one by now; a crash after it leaves the new one. The old store is
 * only read.
 */
export async function migrateStore({ dataDir, to: target, onStep = () => () => {} }: MigrateOptions): Promise<Migrated> {
  const path = resolve(dataDir);
  const to = typeof target === 'string' ? target : target.kind;
  return await locked(path, async () => {
    const from = storeKindIn(path);
    if (from === undefined) throw new KmsError('STORE_UNAVAILABLE', `${path} holds no key store`);
    if (from === to) throw new KmsError('CONFLICT', `${path} holds a store of kind ${to} already`);
    if (from === 'postgres') throw new KmsError('UNSUPPORTED', 'out of a database keys come by a backup and its restore');
    await mark(system, path, from);
    const moved = await withStore(from, path, (source) =>
      withStore(target, path, async (target) => {
        if (target.shared !== undefined) await refuseForeign(source, target);
        const records = await countOf(source);
        const [mine, theirs] = [entriesOf(source), entriesOf(target)];
        const entries = await copyEntries(mine, theirs, onStep('copying', records));
        const { documents, written } = await copyDocuments(source.sealed, target.sealed);
        await compareEntries(mine, theirs, entries, onStep('comparing', records));
        await compareDocuments(source.sealed, target.sealed);
        // A database with a keyring takes no record under an older KEK.
        await copyKeyring(source, target);
        return { ...entries, documents, written: entries.written + written };
      }),
    );
    await mark(system, path, to);
    return { from, to, ...moved };
  });
}

/**
 * Removes what a migration has left of the store that is live no more; returns its files and directories. The live one is opened
 * before. A crash leaves some of it, which the marker keeps from being taken for a store, and the next call removes.
 */
export async function removeMigrated(
  dataDir: string,
  database?: PostgresSettings,
): Promise<{ live: StoreKind | 'postgres'; removed: string[] }> {
  const path = resolve(dataDir);
  return await locked(path, async () => {
    const live = markedKind(path);
    if (live === undefined) throw new KmsError('CONFLICT', `${path} has no ${MARKER}: no store of it was migrated`);
    if (live === 'postgres' && database === undefined) {
      throw new KmsError('INVALID_ARGUMENT', 'the keys are in a database, which has to be named: it is opened before');
    }
    const keyring = await withStore(live === 'postgres' ? (database as PostgresSettings) : live, path, (store) =>
      store.readKeyring(),
    );
    if (keyring === undefined) throw new KmsError('STORE_UNAVAILABLE', `${path} has no keyring`);
    const removed = leftOfMigration(path);
    for (const name of removed) await rm(join(path, name), { recursive: true });
    await syncDirectory(system, path);
    return { live, removed };
  });
}

async function locked<T>(dataDir: string, work: () => Promise<T>): Promise<T> {
  if (!existsSync(dataDir)) throw new KmsError('STORE_UNAVAILABLE', `there is no ${dataDir}`);
  const lock = binding.lockDirectory(dataDir);
  try {
    return await work();
  } finally {
    binding.unlock(lock);
  }
}

async function withStore<T>(
  kind: StoreKind | PostgresSettings,
  dataDir: string,
  work: (store: KeyStore) => Promise<T>,
): Promise<T> {
  const store = await (typeof kind === 'string' ? openStore(kind, dataDir) : openDatabase(kind, dataDir));
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

async function openDatabase(settings: PostgresSettings, dataDir: string): Promise<KeyStore> {
  checkPostgresSettings(settings);
  return await openPostgres(settings, await daemonIdIn(system, dataDir));
}

function entriesOf({ entries }: KeyStore): StoredEntries {
  if (entries === undefined) throw new KmsError('UNSUPPORTED', 'a store of this kind cannot be migrated');
  return entries;
}

async function countOf(store: KeyStore): Promise<number> {
  let count = 0;
  for (let page = ['']; page.length > 0; count += page.length) {
    page = await store.listKeyIds(count === 0 ? undefined : page.at(-1), 1_000);
  }
  return count;
}

/**
 * A database may be the store of others, which a copy would replace. Where it is what a migration of this one has left it
 * holds no keyring, or an older one of this very store that no daemon has gone on from.
 */
async function refuseForeign(source: KeyStore, target: KeyStore): Promise<void> {
  const [own, there] = [await source.readKeyring(), await target.readKeyring()];
  const isLeft = there === undefined || (own?.storeId === there.storeId && there.generation <= own.generation);
  const peers = (await target.shared?.peers()) ?? [];
  if (isLeft && peers.length === 0) return;
  throw new KmsError('CONFLICT', 'the database is the store of daemons already: name another schema');
}

/**
 * With the generation that it has. Stores in one directory have it in common. In a database the keys that sign the log of this
 * directory are a row of its daemon.
 */
async function copyKeyring(source: KeyStore, target: KeyStore): Promise<void> {
  const [found, there] = [await source.readKeyring(), await target.readKeyring()];
  if (found === undefined) throw new KmsError('STORE_UNAVAILABLE', 'there is no keyring');
  const isSame = there !== undefined && Buffer.compare(keyringJson(found), keyringJson(there)) === 0;
  if (!isSame) await target.writeKeyring(found);
  await target.shared?.writeAuditKeys(found.auditKeys, found.generation);
}
