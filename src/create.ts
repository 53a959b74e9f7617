import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { KmsError } from './errors.js';
import { EmbeddedKms } from './kms/embedded.js';
import {
  DEFAULT_ARENA_BYTES,
  DEFAULT_CACHED_KEYS,
  DEFAULT_CONTEXT_IDLE_MS,
  DEFAULT_KEPT_CONTEXTS,
  DEFAULT_KEY_IDLE_MS,
  KEY_BYTES,
  SOFT_USES,
} from './limits.js';
import { binding } from './native.js';
import { prepareDirectory } from './store/data-directory.js';
import { nodeFileSystem } from './store/file-system.js';
import { openFileStore } from './store/files.js';
import type { KeyStore } from './store/key-store.js';
import { openMemoryStore } from './store/memory.js';
import type { MasterSource } from './vault.js';

export type { EmbeddedKms };

export interface EmbeddedOptions {
  /** Where keyring and records live; made (0700) if absent. Required unless `memory`. */
  dataDir?: string;
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
}

interface Ground {
  store: KeyStore;
  master: MasterSource;
  dataDir: string | null;
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
  checkKeyBytes(given.masterKeyBytes);
  for (const name of NUMBERS) {
    const value: unknown = given[name];
    if (value === undefined) continue;
    if (!Number.isSafeInteger(value) || (value as number) < 0) {
      throw new KmsError('INVALID_ARGUMENT', `${name} must be a whole number, not negative`);
    }
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

function memoryGround(): Ground {
  const store = openMemoryStore();
  return { store, master: { kind: 'ephemeral' }, dataDir: null, release: () => store.close() };
}

/** Beside keys that it cannot read a store must not start empty: nobody would notice until the first of them is wanted. */
function refuseOriginal(dataDir: string): void {
  if (!existsSync(join(dataDir, 'kms.db')) || existsSync(join(dataDir, 'keyring.json'))) return;
  throw new KmsError(
    'UNSUPPORTED',
    `${dataDir} holds the key database of the Go daemon (kms.db), which this version cannot read; give another data directory`,
  );
}

async function fileGround(options: EmbeddedOptions): Promise<Ground> {
  if (options.dataDir === undefined) throw new KmsError('INVALID_ARGUMENT', 'give a data directory: dataDir');
  const dataDir = resolve(options.dataDir);
  const master = masterOf(options);
  refuseOriginal(dataDir);
  if (options.initialise === false && !existsSync(dataDir)) throw new KmsError('STORE_UNAVAILABLE', `there is no ${dataDir}`);
  await prepareDirectory(nodeFileSystem, dataDir).catch((cause) => {
    if (cause instanceof KmsError) throw cause;
    throw new KmsError('STORE_UNAVAILABLE', `${dataDir} cannot be made or read: ${cause.code ?? 'failure'}`, { cause });
  });
  // Before the store touches anything: what looks like a crash's leftovers may be another process's write under way.
  const lock = binding.lockDirectory(dataDir);
  try {
    const store = await openFileStore({ dataDir });
    const release = async () => {
      try {
        await store.close();
      } finally {
        binding.unlock(lock);
      }
    };
    return { store, master, dataDir, release };
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

async function openKms(options: EmbeddedOptions): Promise<EmbeddedKms> {
  if (options.harden) binding.hardenProcess();
  const ground = options.memory ? memoryGround() : await fileGround(options);
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
    });
  } catch (error) {
    await ground.release();
    throw error;
  }
}
