import { existsSync, opendirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { KmsError } from '../errors.js';
import { BACKUPS_DIRECTORY } from './file-backups.js';
import { DATABASES_DIRECTORY } from './file-documents.js';
import { errnoOf, type FileSystem } from './file-system.js';
import { openFileStore, RECORDS_DIRECTORY } from './files.js';
import { type KeyStore, STORE_KINDS, type StoreKind } from './key-store.js';
import { KEYRING } from './keyring-file.js';
import { KEYS_FILE, openLmdbStore } from './lmdb.js';
import { LOCK_SUFFIX } from './lmdb-file.js';
import { type LivePlace, MARKER, markedKind } from './marker.js';

/**
 * The file comes to be as a whole, and before the keyring: without it, or empty, a keyring is what is left of a store, and must not be
 * opened as one that has no keys yet. That there was one the marker says, or the lock that LMDB leaves beside it.
 */
function refuseLost(dataDir: string, marked: LivePlace | undefined): void {
  if (marked === 'files' || marked === 'postgres' || !existsSync(join(dataDir, KEYRING))) return;
  const path = join(dataDir, KEYS_FILE);
  const bytes = statSync(path, { throwIfNoEntry: false })?.size;
  const isExpected = marked === 'lmdb' || bytes !== undefined || existsSync(path + LOCK_SUFFIX);
  if (!isExpected || (bytes ?? 0) > 0) return;
  throw new KmsError('STORE_UNAVAILABLE', `there is a keyring, but ${path} is ${bytes === 0 ? 'empty' : 'gone'}; put it back`);
}

/**
 * The kind of store that a data directory holds, undefined where it holds none. Throws STORE_UNAVAILABLE for one that holds two
 * without a word which of them is the live one: an older state of the records would be served as if it were the newest. And for
 * one of which only the keyring is left.
 */
export function storeKindIn(dataDir: string): LivePlace | undefined {
  const marked = markedKind(dataDir);
  refuseLost(dataDir, marked);
  if (marked !== undefined) return marked;
  const hasLmdb = existsSync(join(dataDir, KEYS_FILE));
  if (hasLmdb && hasRecordFiles(join(dataDir, RECORDS_DIRECTORY))) {
    throw new KmsError(
      'STORE_UNAVAILABLE',
      `${dataDir} holds keys in ${KEYS_FILE} and in ${RECORDS_DIRECTORY}, and no ${MARKER} says which are the live ones`,
    );
  }
  if (hasLmdb) return 'lmdb';
  return existsSync(join(dataDir, KEYRING)) || hasRecordFiles(join(dataDir, RECORDS_DIRECTORY)) ? 'files' : undefined;
}

/** The kind to open: what was asked for, if there is not another one; what there is, if nothing was. */
export function storeKindFor(dataDir: string, asked: StoreKind | undefined): StoreKind {
  const held = storeKindIn(dataDir);
  if (held === 'postgres') {
    throw new KmsError('CONFLICT', `the keys of ${dataDir} are in a database by now, which has to be named (store: postgres)`);
  }
  if (asked === undefined || held === undefined || held === asked) return held ?? asked ?? 'files';
  throw new KmsError(
    'CONFLICT',
    `${dataDir} holds a store of kind ${held}, not ${asked}: \`progressdb-kms store migrate --to ${asked}\` makes it one`,
  );
}

/** Files and directories of a data directory that only a store of this kind has. */
function pathsOf(kind: StoreKind): readonly string[] {
  return kind === 'lmdb' ? [KEYS_FILE, KEYS_FILE + LOCK_SUFFIX] : [RECORDS_DIRECTORY, BACKUPS_DIRECTORY, DATABASES_DIRECTORY];
}

/** What is there of the store that is live no more after a migration: files and directories. */
export function leftOfMigration(dataDir: string): string[] {
  const live = markedKind(dataDir);
  if (live === undefined) return [];
  const old = STORE_KINDS.filter((kind) => kind !== live).flatMap((kind) => pathsOf(kind));
  // The stores of a directory have its keyring in common; a database has its own.
  if (live === 'postgres') old.push(KEYRING);
  return old.filter((name) => existsSync(join(dataDir, name)));
}

/** The caller holds the lock of the data directory. */
export function openStore(kind: StoreKind, dataDir: string, fileSystem?: FileSystem): Promise<KeyStore> {
  if (kind === 'lmdb') return openLmdbStore({ dataDir });
  return openFileStore({ dataDir, ...(fileSystem === undefined ? {} : { fileSystem }) });
}

function hasRecordFiles(path: string): boolean {
  try {
    const directory = opendirSync(path);
    try {
      for (let entry = directory.readSync(); entry !== null; entry = directory.readSync()) {
        if (/^k_[0-9a-z]{1,64}\.json$/.test(entry.name)) return true;
      }
      return false;
    } finally {
      directory.closeSync();
    }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false;
    throw new KmsError('STORE_UNAVAILABLE', `${path} cannot be read: ${errnoOf(error) || 'failure'}`, { cause: error });
  }
}
