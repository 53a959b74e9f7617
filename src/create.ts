import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { NO_AUDIT, type OpenAuditLog } from './audit/audit-log.js';
import { ChainedLog, type Forwarding } from './audit/chained-log.js';
import { refuseInterrupted } from './backup/target.js';
import { KmsError } from './errors.js';
import { ownActor } from './kms/calls.js';
import type { DatabaseKms } from './kms/databases/database-kms.js';
import { EmbeddedKms } from './kms/embedded.js';
import { readKeyring } from './kms/keyring-document.js';
import type { EmbeddedSettings } from './kms/lifecycle.js';
import type { Opened } from './kms/opened.js';
import { SharedAuditKeys } from './kms/shared-audit-keys.js';
import {
  DEFAULT_ARENA_BYTES,
  DEFAULT_AUDIT_FILE_BYTES,
  DEFAULT_CACHED_KEYS,
  DEFAULT_CONTEXT_IDLE_MS,
  DEFAULT_DATABASES_PER_IDENTITY,
  DEFAULT_KEEP_BACKUPS,
  DEFAULT_KEPT_CONTEXTS,
  DEFAULT_KEY_IDLE_MS,
  DEFAULT_KEYS_PER_DATABASE,
  KEK_DUE_DAYS,
  KEY_BYTES,
  SOFT_USES,
} from './limits.js';
import { binding } from './native.js';
import { daemonIdIn } from './store/daemon-id.js';
import { prepareDirectory } from './store/data-directory.js';
import { nodeFileSystem } from './store/file-system.js';
import { type KeyringDocument, type KeyStore, STORE_KINDS, type StoreKind } from './store/key-store.js';
import { openStore, storeKindFor, storeKindIn } from './store/kind.js';
import { openMemoryStore } from './store/memory.js';
import { checkPostgresSettings, openPostgres, type PostgresSettings } from './store/postgres-settings.js';
import type { SharedStore } from './store/shared-store.js';
import type { DataOperations, MasterSource } from './vault.js';
import { versionOfPackage } from './version.js';

export type { DatabaseKms, EmbeddedKms };

/** The audit log in the data directory; docs/AUDIT.md. */
export interface AuditOptions {
  /** How encryptions and decryptions are written; `off` unless told. Administrative operations always are. */
  dataOperations?: DataOperations;
  /** The X25519 public key of an auditor (32 bytes), who can then check every line. */
  auditorKey?: Uint8Array;
  /** Encrypt and decrypt also while nothing can be written. */
  continueOnFailure?: boolean;
  /** Open although keyring or log is older than the other one. */
  acceptRollback?: boolean;
  /** Length at which another file begins. */
  maxFileBytes?: number;
  /** Gets each line once it is durable; it must not throw or wait. */
  forwarding?: Forwarding;
}

export interface EmbeddedOptions {
  /** Where keyring and records live; made (0700) if absent. Required unless `memory`. */
  dataDir?: string;
  /**
   * What keeps the records: `files`, one for each, or `lmdb`, for millions of them; what the directory holds unless told, else `files`.
   * Or a database that several processes share, each with a data directory of its own for its audit log.
   */
  store?: StoreKind | PostgresSettings;
  /** 32 bytes as 64 hex digits, base64, or raw; read natively. Required unless `memory` or another source of the key. */
  masterKeyFile?: string;
  /** An open descriptor to read the master key from, once; it cannot be unsealed again. */
  masterKeyFd?: number;
  /** The 32 bytes themselves, wiped by the call whatever comes of it; it cannot be unsealed again. Prefer a file. */
  masterKeyBytes?: Uint8Array;
  /** The key file may be readable by its group. False unless it is in $CREDENTIALS_DIRECTORY. */
  keyFileMayBeGroupReadable?: boolean;
  /** An ephemeral master key and a store that is gone with the process. */
  memory?: boolean;
  /** Make a keyring in an empty or absent data directory; true unless told. */
  initialise?: boolean;
  /** Refuse to keep keys in memory that cannot be locked. */
  strict?: boolean;
  /** No core files, not dumpable, SIGUSR1 ignored: for the whole process. */
  harden?: boolean;
  /** Allow `wrapDek` and `unwrapDek`, which pass raw keys through JavaScript. */
  exposeRawKeys?: boolean;
  /** Locked memory for keys, 40 bytes each. The first provider of a process decides. */
  arenaBytes?: number;
  /** Keyed cipher contexts kept per thread; 0 keeps none. The first provider of a process decides. */
  keptContexts?: number;
  /** Milliseconds after which an unused context is wiped; 0 for never. */
  contextIdleMs?: number;
  /** Keys kept unwrapped at most. */
  cachedKeys?: number;
  /** Milliseconds after which an unused key is wiped; 0 for never. */
  keyIdleMs?: number;
  /** Uses after which the default key is succeeded; 2^31 unless told. */
  defaultKeySoftUses?: number;
  audit?: AuditOptions;
  /** Open to look: no master key is confirmed, no rotation goes on. */
  inspect?: boolean;
  /** Rotations of which the records as they were before stay; 1 unless told. */
  keepBackups?: number;
  /** Keys that a rotation rewraps per second at most; 0, any number, unless told. */
  rotationKeysPerSecond?: number;
  /** Client-sealed databases that one identity may make, 0 for any number; 1,000 unless told. */
  databasesPerIdentity?: number;
  /** Keys of one database, destroyed ones too, 0 for any number; 100,000 unless told. */
  keysPerDatabase?: number;
  /** Days after which a rotation is due, 0 for never; 365 unless told. */
  rotationDueDays?: number;
}

interface Ground {
  store: KeyStore;
  master: MasterSource;
  dataDir: string | null;
  openAudit: EmbeddedSettings['openAudit'];
  release: () => Promise<void>;
}

const PATHS = ['dataDir', 'masterKeyFile'] as const;
const NUMBERS = [
  'masterKeyFd',
  'arenaBytes',
  'keptContexts',
  'contextIdleMs',
  'cachedKeys',
  'keyIdleMs',
  'defaultKeySoftUses',
  'keepBackups',
  'rotationKeysPerSecond',
  'rotationDueDays',
  'databasesPerIdentity',
  'keysPerDatabase',
] as const;

function checkOptions(options: unknown): asserts options is EmbeddedOptions {
  if (typeof options !== 'object' || options === null) throw new KmsError('INVALID_ARGUMENT', 'createEmbeddedKms takes options');
  const given = options as EmbeddedOptions;
  for (const name of PATHS) {
    const path: unknown = given[name];
    if (path === undefined) continue;
    if (typeof path !== 'string' || path === '' || path.includes('\0'))
      throw new KmsError('INVALID_ARGUMENT', `${name} must be a path`);
  }
  checkStore(given.store);
  checkKeyBytes(given.masterKeyBytes);
  for (const name of NUMBERS) {
    const value: unknown = given[name];
    if (value === undefined) continue;
    if (!Number.isSafeInteger(value) || (value as number) < 0) {
      throw new KmsError('INVALID_ARGUMENT', `${name} must be a whole number, not negative`);
    }
  }
}

function checkStore(store: EmbeddedOptions['store']): void {
  if (typeof store === 'object' && store?.kind === 'postgres') checkPostgresSettings(store);
  else if (store !== undefined && !STORE_KINDS.includes(store as StoreKind)) {
    throw new KmsError('INVALID_ARGUMENT', `store must be ${STORE_KINDS.join(' or ')}, or settings of kind postgres`);
  }
}

function checkKeyBytes(bytes: unknown): void {
  if (bytes === undefined || (bytes instanceof Uint8Array && bytes.length === KEY_BYTES)) return;
  throw new KmsError('INVALID_ARGUMENT', `masterKeyBytes must be a Uint8Array of ${KEY_BYTES} bytes`);
}

function masterOf(options: EmbeddedOptions): MasterSource {
  const { masterKeyFile, masterKeyFd, masterKeyBytes } = options;
  if ([masterKeyFile, masterKeyFd, masterKeyBytes].filter((source) => source !== undefined).length !== 1) {
    throw new KmsError('INVALID_ARGUMENT', 'give one master key: masterKeyFile, masterKeyFd or masterKeyBytes');
  }
  if (masterKeyBytes !== undefined) return { kind: 'bytes', bytes: masterKeyBytes };
  if (masterKeyFd !== undefined) return { kind: 'descriptor', fd: masterKeyFd };
  // Absolute: it is read again at an unseal, wherever the process has gone by then.
  const path = resolve(masterKeyFile as string);
  const credentials = process.env['CREDENTIALS_DIRECTORY'];
  const isCredential = credentials !== undefined && path.startsWith(`${credentials}/`);
  return { kind: 'file', path, mayBeGroupReadable: options.keyFileMayBeGroupReadable ?? isCredential };
}

/** What opens the audit log of a store. */
export function auditOf(
  dataDir: string,
  options: AuditOptions,
  shared?: SharedStore,
): (opened: Pick<Opened, 'vault' | 'keyring'>) => Promise<OpenAuditLog> {
  const settings = {
    dataOperations: options.dataOperations ?? 'off',
    continueOnFailure: options.continueOnFailure ?? false,
    acceptRollback: options.acceptRollback ?? false,
    maxFileBytes: options.maxFileBytes ?? DEFAULT_AUDIT_FILE_BYTES,
    version: versionOfPackage(),
    actor: ownActor(),
    ...(options.auditorKey === undefined ? {} : { auditorKey: options.auditorKey }),
    ...(options.forwarding === undefined ? {} : { forwarding: options.forwarding }),
  };
  return async ({ vault, keyring }) => {
    // Of a store that is shared each daemon has a log of its own, and keys that sign it.
    const audited = shared === undefined ? keyring : await SharedAuditKeys.open(keyring, shared);
    return ChainedLog.open(nodeFileSystem, dataDir, vault, audited, settings);
  };
}

function memoryGround(): Ground {
  const store = openMemoryStore();
  const openAudit = async () => NO_AUDIT;
  return { store, master: { kind: 'ephemeral' }, dataDir: null, openAudit, release: () => store.close() };
}

/** Beside keys that it cannot read a store must not start empty: nobody would notice until the first of them is wanted. */
function refuseOriginal(dataDir: string): void {
  if (!existsSync(join(dataDir, 'kms.db')) || existsSync(join(dataDir, 'keyring.json'))) return;
  throw new KmsError(
    'UNSUPPORTED',
    `${dataDir} holds the key database of the Go daemon (kms.db), which only that one can read. While it runs, take its keys over to ` +
      'another directory: progressdb-kms init --data-dir NEW --master-key-file NEW.key; progressdb-kms import --data-dir NEW ' +
      '--master-key-file NEW.key --from-master-key-file OLD.key --from http://127.0.0.1:6820 --ids IDS',
  );
}

async function storeOf(dataDir: string, asked: EmbeddedOptions['store']): Promise<KeyStore> {
  if (typeof asked !== 'object') return openStore(storeKindFor(dataDir, asked), dataDir);
  const held = storeKindIn(dataDir);
  if (held !== undefined && held !== 'postgres') {
    throw new KmsError('CONFLICT', `${dataDir} holds a store of kind ${held}; a store in PostgreSQL has another data directory`);
  }
  return openPostgres(asked, await daemonIdIn(nodeFileSystem, dataDir));
}

async function fileGround(options: EmbeddedOptions): Promise<Ground> {
  if (options.dataDir === undefined) throw new KmsError('INVALID_ARGUMENT', 'give a data directory: dataDir');
  const dataDir = resolve(options.dataDir);
  const master = masterOf(options);
  refuseOriginal(dataDir);
  await refuseInterrupted(nodeFileSystem, dataDir);
  // Of a store in a database a directory holds what is one daemon's alone, and is made with the first.
  const holdsKeys = typeof options.store !== 'object';
  if (holdsKeys && options.initialise === false && !existsSync(dataDir))
    throw new KmsError('STORE_UNAVAILABLE', `there is no ${dataDir}`);
  await prepareDirectory(nodeFileSystem, dataDir).catch((cause) => {
    if (cause instanceof KmsError) throw cause;
    throw new KmsError('STORE_UNAVAILABLE', `${dataDir} cannot be made or read: ${cause.code ?? 'failure'}`, { cause });
  });
  // Before the store touches anything: what looks like a crash's leftovers may be another process's write under way.
  const lock = binding.lockDirectory(dataDir);
  try {
    const store = await storeOf(dataDir, options.store);
    const release = async () => {
      try {
        await store.close();
      } finally {
        binding.unlock(lock);
      }
    };
    return { store, master, dataDir, openAudit: auditOf(dataDir, options.audit ?? {}, store.shared), release };
  } catch (error) {
    binding.unlock(lock);
    throw error;
  }
}

/**
 * Opens a key service in this process.
 *
 * ```js
 * const kms = await createEmbeddedKms({ dataDir: './kms-data', masterKeyFile: './kms-master.key' });
 * const { keyId } = await kms.createDekForThread('thread-1');
 * const { ciphertext } = await kms.encryptWithDek(keyId, Buffer.from('hello'));
 * ```
 *
 * Throws UNAUTHENTICATED if the master key does not open the keyring, STORE_UNAVAILABLE for a keyring that is missing,
 * foreign, damaged or tampered with, CONFLICT if another process has the data directory, PERMISSION_DENIED for files that
 * others can reach.
 */
export async function createEmbeddedKms(options: EmbeddedOptions): Promise<EmbeddedKms> {
  checkOptions(options);
  try {
    return await openKms(options);
  } finally {
    options.masterKeyBytes?.fill(0);
  }
}

export interface KeyringPlace {
  dataDir: string;
  masterKeyFile: string;
  /** Where the keyring is not in the data directory. */
  store?: PostgresSettings;
}

async function keyringOf(settings: PostgresSettings): Promise<KeyringDocument> {
  checkPostgresSettings(settings);
  const store = await openPostgres(settings, 'd_none', true);
  try {
    const document = await readKeyring(store);
    if (document === undefined) throw new KmsError('STORE_UNAVAILABLE', 'the database holds no key store');
    return document;
  } finally {
    await store.close();
  }
}

/**
 * Opens the keyring of a store to look at it, from a copy in memory: nothing in the directory is touched or locked, so that a
 * daemon may serve it meanwhile. A keyring is replaced as a whole, so that what is read is one or the next. No key but its own is
 * in the provider. Throws as `createEmbeddedKms`.
 */
export async function openKeyring({ dataDir, masterKeyFile, store: database }: KeyringPlace): Promise<EmbeddedKms> {
  const store = openMemoryStore();
  await store.writeKeyring(database === undefined ? keyringIn(dataDir) : await keyringOf(database));
  const openAudit = async () => NO_AUDIT;
  const ground: Ground = { store, master: masterOf({ masterKeyFile }), dataDir: null, openAudit, release: () => store.close() };
  return openOn(ground, { inspect: true, initialise: false });
}

function keyringIn(dataDir: string): KeyringDocument {
  const path = join(dataDir, 'keyring.json');
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (cause) {
    throw new KmsError('STORE_UNAVAILABLE', `${path} cannot be read: ${(cause as NodeJS.ErrnoException).code}`, { cause });
  }
  try {
    return binding.parseKeyring(bytes);
  } catch (cause) {
    if (cause instanceof KmsError && cause.code === 'UNSUPPORTED') throw cause;
    throw new KmsError('STORE_UNAVAILABLE', 'the keyring is damaged', { cause });
  }
}

async function openKms(options: EmbeddedOptions): Promise<EmbeddedKms> {
  if (options.harden) binding.hardenProcess();
  return openOn(options.memory ? memoryGround() : await fileGround(options), options);
}

async function openOn(ground: Ground, options: EmbeddedOptions): Promise<EmbeddedKms> {
  try {
    return await EmbeddedKms.open({
      ...ground,
      arena: {
        arenaBytes: options.arenaBytes ?? DEFAULT_ARENA_BYTES,
        keptContexts: options.keptContexts ?? DEFAULT_KEPT_CONTEXTS,
      },
      cachedKeys: options.cachedKeys ?? DEFAULT_CACHED_KEYS,
      contextIdleMs: options.contextIdleMs ?? DEFAULT_CONTEXT_IDLE_MS,
      keyIdleMs: options.keyIdleMs ?? DEFAULT_KEY_IDLE_MS,
      initialise: options.initialise ?? true,
      strict: options.strict ?? false,
      exposeRawKeys: options.exposeRawKeys ?? false,
      defaultKeySoftUses: options.defaultKeySoftUses ?? SOFT_USES,
      inspect: options.inspect ?? false,
      keepBackups: options.keepBackups ?? DEFAULT_KEEP_BACKUPS,
      keysPerSecond: options.rotationKeysPerSecond ?? 0,
      dueDays: options.rotationDueDays ?? KEK_DUE_DAYS,
      databasesPerIdentity: options.databasesPerIdentity ?? DEFAULT_DATABASES_PER_IDENTITY,
      keysPerDatabase: options.keysPerDatabase ?? DEFAULT_KEYS_PER_DATABASE,
    });
  } catch (error) {
    await ground.release();
    throw error;
  }
}
