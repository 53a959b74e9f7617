import { join } from 'node:path';
import type { OpenAuditLog } from '../audit/audit-log.js';
import { KmsError } from '../errors.js';
import { type Known, Shares } from '../kms/databases/shares.js';
import { Keyring } from '../kms/keyring.js';
import { Records } from '../kms/records.js';
import { MAX_KEYRING_BYTES, MAX_LIST_LIMIT, MAX_USES, RESTORED_USES } from '../limits.js';
import { binding } from '../native.js';
import { DATABASES_DIRECTORY } from '../store/file-documents.js';
import { type FileSystem, nodeFileSystem, READ_FLAGS, readWhole } from '../store/file-system.js';
import { RECORDS_DIRECTORY } from '../store/files.js';
import type { KeyMeta, KeyringDocument, KeyStore, StoreKind } from '../store/key-store.js';
import { openStore, storeKindIn } from '../store/kind.js';
import { openMemoryStore } from '../store/memory.js';
import { Turnstile } from '../store/turnstile.js';
import type { Handle, MasterSource, Vault } from '../vault.js';
import { type AuditEnd, auditEndOf, auditFiles } from './audit-end.js';
import type { SoundDocument } from './documents.js';
import { damaged, nameOfDatabase } from './format.js';
import { Target } from './target.js';
import { badRecords, checkSeal, type OpenedBackup, openBackup, type Scanned, scanBackup } from './verify.js';

/** Records written at once; each waits for its own fsync. */
const WRITES_AT_ONCE = 64;

export interface RestoreOptions {
  path: string;
  dataDir: string;
  master: MasterSource;
  /** What keeps the records of the directory that is made; `files` unless told. */
  store?: StoreKind;
  /** Set a directory that is not empty aside. */
  force?: boolean;
  /** Go back although the directory has gone on since the backup. */
  acceptRollback?: boolean;
  /** Who restores. */
  actor: string;
  /** Opens the audit log of the directory that is made, before it is put in its place. */
  openAudit: (dataDir: string, vault: Vault, keyring: Keyring) => Promise<OpenAuditLog>;
  onScanned?: (records: number) => void;
  onRecord?: () => void;
  fileSystem?: FileSystem;
}

/** What an operator has to know of a restore. */
export interface Restored {
  storeId: string;
  generation: number;
  createdAt: string;
  records: number;
  /** Keys of which the backup has no record because it was damaged already. */
  leftOut: readonly string[];
  /** Where the directory is that was there; null if there was none. */
  setAside: string | null;
  /** Keys and databases of that directory that are not in the backup: only what is set aside has them. */
  keysMissing: string[];
  /** Keys that encrypt no more, since their use counts are at the end. */
  exhausted: number;
  /** Whether access tokens of the time of the backup hold again. */
  hasTokens: boolean;
  /** Lines that the audit log has beyond the backup; it was kept. */
  auditLinesAfter: number;
  /** Whether another audit log begins, with a public key of its own; one that could not be gone on with stands beside it. */
  beginsAuditLog: boolean;
}

/**
 * Makes a data directory from a backup. Everything is verified before the target is touched, and the target is replaced as a
 * whole: see `Target`. UNAUTHENTICATED for a wrong master key, INVALID_ARGUMENT for a damaged backup, CONFLICT for a directory in use, not
 * empty, or newer than the backup.
 */
export async function restoreBackup(options: RestoreOptions): Promise<Restored> {
  const { path, dataDir, master, force = false, fileSystem: system = nodeFileSystem } = options;
  const backup = openBackup(await scanBackup(path, system), master);
  try {
    await checkSeal(backup);
    options.onScanned?.(backup.manifest.records);
    const target = await Target.take(system, dataDir, force);
    let isRestored = false;
    try {
      const before = target.replaces ? await replaced(system, target.path, backup) : NOTHING_REPLACED;
      if (before.isNewer && options.acceptRollback !== true) throw rollback(before, backup);
      await target.begin();
      const made = await build(system, target, backup, before, options);
      const keysMissing = await missingKeys(system, target);
      const setAside = await target.swap();
      isRestored = true;
      return { ...reportOf(backup, before), ...made, setAside, keysMissing };
    } finally {
      await target.end(isRestored);
    }
  } finally {
    backup.vault.close();
  }
}

/** What the directory tells that is to be replaced. */
interface Replaced {
  /** Of its keyring, or of its audit log if that tells of a higher one. */
  generation: number;
  auditLinesAfter: number;
  isNewer: boolean;
  /** Of the last line of its log, 0 if that is not kept. */
  lastSeq: number;
  /** What signs that log, where the same master key leads to it. */
  signingKeys: SigningKey[];
}

interface SigningKey {
  publicKey: Uint8Array;
  createdAt: string;
  handle: Handle;
}

const NOTHING_REPLACED: Replaced = { generation: 0, auditLinesAfter: 0, isNewer: false, lastSeq: 0, signingKeys: [] };

async function replaced(system: FileSystem, dataDir: string, backup: OpenedBackup): Promise<Replaced> {
  const keyring = await keyringIn(system, dataDir);
  // The log of another store says nothing of this one and could not be gone on with.
  if (keyring !== undefined && keyring.storeId !== backup.manifest.storeId) return NOTHING_REPLACED;
  const end: AuditEnd | undefined = await auditEndOf(system, dataDir);
  const generation = Math.max(keyring?.generation ?? 0, end?.generation ?? 0);
  const auditLinesAfter = Math.max(0, (end?.seq ?? 0) - (backup.audit?.seq ?? 0));
  const isNewer = auditLinesAfter > 0 || generation > backup.manifest.generation;
  return { generation, auditLinesAfter, isNewer, lastSeq: end?.seq ?? 0, signingKeys: signingKeysOf(keyring, backup) };
}

/**
 * The keys that sign the log of the old directory: it goes on, and the backup's have been wiped since. None if its keyring cannot
 * be opened; the log is then gone on with only if the backup's can still sign it, and otherwise stands aside of another one.
 */
function signingKeysOf(document: KeyringDocument | undefined, { vault, master }: OpenedBackup): SigningKey[] {
  if (document === undefined) return [];
  try {
    const keyring = Keyring.open(vault, openMemoryStore(), master, document);
    return keyring.auditKeys.map((key) => ({ ...key, handle: keyring.unwrapSigning(key) }));
  } catch (error) {
    if (error instanceof KmsError) return [];
    throw error;
  }
}

/** Undefined for none, and for one that cannot be read: that may be why there is a restore. */
async function keyringIn(system: FileSystem, dataDir: string): Promise<KeyringDocument | undefined> {
  try {
    const fd = await system.open(join(dataDir, 'keyring.json'), READ_FLAGS, 0);
    return binding.parseKeyring(await readWhole(system, fd, MAX_KEYRING_BYTES).finally(() => system.close(fd)));
  } catch {
    return undefined;
  }
}

function rollback({ generation, auditLinesAfter }: Replaced, { manifest }: Scanned): KmsError {
  const lines = auditLinesAfter === 0 ? '' : `, and ${auditLinesAfter} lines more in its audit log`;
  return new KmsError(
    'CONFLICT',
    `the directory has gone on since this backup (generation ${generation} after ${manifest.generation}${lines}): ` +
      '--accept-rollback gives up what was done since then',
  );
}

/** Makes the new directory; the keyring, without which it is no store, last of what a store is made of. */
async function build(
  system: FileSystem,
  target: Target,
  backup: OpenedBackup,
  before: Replaced,
  options: RestoreOptions,
): Promise<Pick<Restored, 'generation' | 'exhausted' | 'beginsAuditLog'>> {
  const store = await openStore(options.store ?? 'files', target.staging, system);
  try {
    const { keyring, exhausted } = await fill(store, backup, before, system, options.onRecord);
    if (backup.tokens !== undefined) await target.put('tokens.json', backup.tokens);
    if (before.lastSeq > 0) for (const name of await auditFiles(system, target.path)) await target.carry(name);
    const beginsAuditLog = await tell(target, backup, keyring, before, options);
    return { generation: keyring.generation, exhausted, beginsAuditLog };
  } finally {
    await store.close();
  }
}

/** The log is told before the directory takes its place, so that there is no restored one without its line. Answers whether it is new. */
async function tell(
  target: Target,
  { vault, manifest, audit }: OpenedBackup,
  keyring: Keyring,
  { auditLinesAfter, lastSeq }: Replaced,
  { actor, openAudit }: RestoreOptions,
): Promise<boolean> {
  const log = await openAudit(target.staging, vault, keyring);
  // One that goes on has lines of this start already.
  const isNew = lastSeq === 0 || log.state().seq <= lastSeq;
  const { createdAt, generation, records } = manifest;
  const detail = { created_at: createdAt, backup_generation: generation, records, undone_lines: auditLinesAfter };
  const head = { backup_seq: audit?.seq ?? null, backup_sha256: audit?.sha256 ?? null };
  await log.write({ type: 'restore', actor, outcome: 'ok', detail: { ...detail, ...head } });
  await log.finish({ type: 'stop', actor, outcome: 'ok' }).closed;
  return isNew;
}

async function fill(
  store: KeyStore,
  backup: OpenedBackup,
  before: Replaced,
  system: FileSystem,
  onRecord: (() => void) | undefined,
): Promise<{ keyring: Keyring; exhausted: number }> {
  const { path, vault, master } = backup;
  const keyring = Keyring.open(vault, store, master, backup.keyring);
  const records = new Records(vault, store, keyring);
  const shares = new Shares({ vault, keyring }, store.sealed);
  const writes = new Writes();
  let [exhausted, defaultKeyId] = [0, ''];
  const write = (record: KeyMeta) => {
    if (record.keyId === keyring.defaultKeyId) defaultKeyId = record.keyId;
    if (record.state !== 'destroyed' && record.usesReserved + RESTORED_USES >= MAX_USES) exhausted += 1;
    return writes.add(async () => {
      await restoredRecord(records, store, record);
      onRecord?.();
    });
  };
  try {
    const writeDocument = ({ name, document, known }: SoundDocument) =>
      writes.add(
        () => store.sealed.write(name, known === undefined ? document : restoredDatabase(shares, known), undefined),
        known !== undefined,
      );
    for await (const { keyId, reason } of badRecords(backup, write, system, writeDocument))
      throw damaged(path, `${keyId}: ${reason}`);
  } finally {
    // A write that goes on after its directory was removed would make parts of it anew.
    await writes.settled();
  }
  writes.refuseIfFailed();
  const auditKeys = () =>
    before.signingKeys.map(({ publicKey, createdAt, handle }) => ({
      publicKey,
      createdAt,
      wrapped: keyring.wrapSigning(handle, publicKey),
    }));
  await keyring.restored(RESTORED_USES, before.generation, { defaultKeyId, auditKeys });
  return { keyring, exhausted };
}

/** How often the key was used since the backup is not known: that many uses are taken as done. */
async function restoredRecord(records: Records, store: KeyStore, record: KeyMeta): Promise<void> {
  if (record.state === 'destroyed') return await store.createRecord(record);
  const { mac: _mac, ...draft } = record;
  const usesReserved = Math.min(MAX_USES, record.usesReserved + RESTORED_USES);
  await records.create({ ...draft, usesReserved, version: record.version + 1, updatedAt: new Date().toISOString() });
}

/** How often keys in it were used since the backup is not known either: its next opener takes so many uses as done for each time. */
function restoredDatabase(shares: Shares, { document }: Known): Uint8Array {
  return shares.encoded({ ...document, version: document.version + 1, restores: document.restores + 1 });
}

/** A bounded number of writes at once; the first failure is kept, and nothing is begun after it. */
class Writes {
  readonly #turnstile = new Turnstile(WRITES_AT_ONCE);
  readonly #under = new Set<Promise<void>>();
  #failure: { error: unknown } | undefined;

  /** Resolves when there is room for another one, or, where what comes after needs it, when it is done. */
  async add(work: () => Promise<void>, isNeeded = false): Promise<void> {
    this.refuseIfFailed();
    const write = this.#turnstile
      .through(work)
      .catch((error) => {
        this.#failure ??= { error };
      })
      .finally(() => this.#under.delete(write));
    this.#under.add(write);
    if (isNeeded) await write;
    if (this.#under.size >= WRITES_AT_ONCE) await Promise.race(this.#under);
  }

  async settled(): Promise<void> {
    await Promise.all(this.#under);
  }

  refuseIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}

/** Keys that only the old directory has. */
async function missingKeys(system: FileSystem, target: Target): Promise<string[]> {
  if (!target.replaces) return [];
  const restored = new Set(await keyIdsIn(system, target.staging));
  const missing = (await keyIdsIn(system, target.path)).filter((keyId) => !restored.has(keyId)).sort();
  return [...missing, ...(await missingDatabases(system, target))];
}

async function missingDatabases(system: FileSystem, target: Target): Promise<string[]> {
  const restored = new Set(await databasesIn(system, target.staging));
  const old = await databasesIn(system, target.path);
  return old
    .filter((databaseId) => !restored.has(databaseId))
    .sort()
    .map(nameOfDatabase);
}

/** None where they cannot be listed: that may be why there is a restore. */
async function keyIdsIn(system: FileSystem, dataDir: string): Promise<string[]> {
  try {
    if (storeKindIn(dataDir) !== 'lmdb') {
      const names = await system.readdir(join(dataDir, RECORDS_DIRECTORY));
      return names.flatMap((name) => /^(k_[0-9a-z]{1,64})\.json$/.exec(name)?.[1] ?? []);
    }
    return await allOf(dataDir, (store, after) => store.listKeyIds(after, MAX_LIST_LIMIT));
  } catch {
    return [];
  }
}

async function databasesIn(system: FileSystem, dataDir: string): Promise<string[]> {
  try {
    if (storeKindIn(dataDir) !== 'lmdb') {
      const names = await system.readdir(join(dataDir, DATABASES_DIRECTORY));
      return names.flatMap((name) => /^([0-9a-f]{32})\.database$/.exec(name)?.[1] ?? []);
    }
    return await allOf(dataDir, (store, after) => store.sealed.list('', after, MAX_LIST_LIMIT));
  } catch {
    return [];
  }
}

type ListPage = (store: KeyStore, after: string | undefined) => Promise<string[]>;

async function allOf(dataDir: string, list: ListPage): Promise<string[]> {
  const store = await openStore('lmdb', dataDir);
  try {
    const found: string[] = [];
    for (let page = ['']; page.length > 0; found.push(...page)) page = await list(store, found.at(-1));
    return found;
  } finally {
    await store.close();
  }
}

function reportOf({ manifest, tokens }: Scanned, { auditLinesAfter }: Replaced) {
  const { storeId, createdAt, records, leftOut } = manifest;
  return { storeId, createdAt, records, leftOut, hasTokens: tokens !== undefined, auditLinesAfter };
}
