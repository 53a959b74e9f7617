import { dirname, resolve } from 'node:path';
import { KmsError } from '../errors.js';
import { audited } from '../kms/audited.js';
import type { Snapshot } from '../kms/snapshot.js';
import { MAX_LEFT_OUT, MAX_TOKEN_FILE_BYTES } from '../limits.js';
import { keyringJson, recordJson } from '../store/document-json.js';
import { errnoOf, type FileSystem, nodeFileSystem, READ_FLAGS, readWhole } from '../store/file-system.js';
import { auditEndOf } from './audit-end.js';
import { BackupWriter } from './backup-writer.js';
import {
  auditHeadJson,
  canonicalBackup,
  documentBytes,
  MAC_INFO,
  type Manifest,
  manifestJson,
  nameOfDatabase,
  type Version,
} from './format.js';

export interface BackupOptions {
  /** Absolute, or from the working directory. */
  path: string;
  /** Null for a store in memory, which has neither tokens nor an audit log. */
  dataDir: string | null;
  /** Who asks for it. */
  actor: string;
  /** Leave damaged records out, and name them, instead of making no backup. */
  skipDamaged?: boolean;
  onRecord?: () => void;
  fileSystem?: FileSystem;
}

export interface Backup extends Manifest {
  path: string;
  bytes: number;
}

/**
 * Writes a backup of a store that may be serving: its records, then the keyring, then the tokens and how far the audit log is.
 * Durable when it resolves; a crash leaves a whole file under that name or none. CONFLICT if there is one, PERMISSION_DENIED for a
 * directory in which others could put another file in its place, STORE_UNAVAILABLE for a damaged record.
 */
export async function createBackup(snapshot: Snapshot, options: BackupOptions): Promise<Backup> {
  const path = resolve(options.path);
  const event = { type: 'backup' as const, actor: options.actor, detail: { path } };
  return await audited(
    snapshot.audit,
    event,
    () => writeBackup(snapshot, path, options),
    ({ records, leftOut, bytes }) => ({ detail: { path, records, left_out: leftOut.length, bytes } }),
  );
}

async function writeBackup(snapshot: Snapshot, path: string, options: BackupOptions): Promise<Backup> {
  const { fileSystem: system = nodeFileSystem } = options;
  await checkPlace(system, path, options.dataDir);
  // Before the first byte: who makes the first database meanwhile is in the next backup.
  const version = (await snapshot.hasDatabases()) ? 2 : 1;
  const writer = await BackupWriter.create(system, path, version);
  try {
    const made = { ...(await write(snapshot, writer, version, system, options)), path, bytes: writer.bytes };
    await writer.publish();
    return made;
  } finally {
    await writer.discard();
  }
}

async function write(
  snapshot: Snapshot,
  writer: BackupWriter,
  version: Version,
  system: FileSystem,
  { dataDir, actor, skipDamaged, onRecord }: BackupOptions,
): Promise<Manifest> {
  const createdAt = new Date().toISOString();
  const leftOut: string[] = [];
  const leaveOut = (keyId: string) => {
    if (leftOut.push(keyId) > MAX_LEFT_OUT)
      throw new KmsError('STORE_UNAVAILABLE', `more than ${MAX_LEFT_OUT} records are damaged`);
  };
  let records = 0;
  for await (const record of snapshot.records(skipDamaged === true ? leaveOut : undefined)) {
    await writer.add('record', recordJson(record));
    records += 1;
    onRecord?.();
  }
  const leaveDatabaseOut = (databaseId: string) => leaveOut(nameOfDatabase(databaseId));
  let documents = 0;
  if (version === 2) {
    for await (const document of snapshot.documents(skipDamaged === true ? leaveDatabaseOut : undefined)) {
      await writer.add('document', documentBytes(document));
      documents += 1;
    }
  }
  const { storeId, generation } = await addKeyring(snapshot, writer);
  if (dataDir !== null) {
    const tokens = await contentOf(system, resolve(dataDir, 'tokens.json'), MAX_TOKEN_FILE_BYTES);
    if (tokens !== undefined) await writer.add('tokens', tokens);
    const head = await auditEndOf(system, dataDir);
    if (head !== undefined) await writer.add('audit', auditHeadJson(head));
  }
  const manifest = { version, storeId, generation, createdAt, createdBy: actor, records, documents, leftOut: leftOut.sort() };
  await writer.add('manifest', manifestJson(manifest));
  const digest = writer.digest();
  await writer.add('seal', Buffer.concat([digest, snapshot.mac(canonicalBackup(manifest, digest))]));
  return manifest;
}

async function addKeyring(snapshot: Snapshot, writer: BackupWriter) {
  const document = await snapshot.keyring(MAC_INFO);
  await writer.add('keyring', keyringJson(document));
  return document;
}

async function contentOf(system: FileSystem, path: string, maxBytes: number): Promise<Uint8Array | undefined> {
  let fd: number;
  try {
    fd = await system.open(path, READ_FLAGS, 0);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw new KmsError('STORE_UNAVAILABLE', `${path} cannot be read: ${errnoOf(error)}`, { cause: error });
  }
  try {
    const { size } = await system.fstat(fd);
    if (size > maxBytes) throw new KmsError('STORE_UNAVAILABLE', `${path} is longer than ${maxBytes} bytes`);
    return await readWhole(system, fd, size);
  } finally {
    await system.close(fd);
  }
}

const FOR_OTHERS_TO_WRITE = 0o022;
const STICKY = 0o1000;

/** Where nobody else can take the file away or put one in its place, and not beside the keys that it is to outlive. */
async function checkPlace(system: FileSystem, path: string, dataDir: string | null): Promise<void> {
  if (path.includes('\0')) throw new KmsError('INVALID_ARGUMENT', 'a path has no zero byte');
  const directory = dirname(path);
  let stats: Awaited<ReturnType<FileSystem['stat']>>;
  try {
    stats = await system.stat(directory);
  } catch (cause) {
    throw new KmsError('INVALID_ARGUMENT', `${directory} cannot be written to: ${errnoOf(cause) || 'failure'}`, { cause });
  }
  if (!stats.isDirectory()) throw new KmsError('INVALID_ARGUMENT', `${directory} is not a directory`);
  if (stats.uid !== system.effectiveUid() && stats.uid !== 0) {
    const uid = system.effectiveUid();
    throw new KmsError('PERMISSION_DENIED', `${directory} belongs to uid ${stats.uid}, and not to ${uid}, who writes the backup`);
  }
  if ((stats.mode & FOR_OTHERS_TO_WRITE) !== 0 && (stats.mode & STICKY) === 0) {
    throw new KmsError('PERMISSION_DENIED', `${directory} can be written to by others: chmod go-w ${directory}`);
  }
  if (dataDir !== null && (await isWithin(system, resolve(dataDir), directory))) {
    throw new KmsError('INVALID_ARGUMENT', `${path} is in the data directory itself: name a place that outlives it`);
  }
}

/** By what the directories are and not by their names, which links change. */
async function isWithin(system: FileSystem, outer: string, path: string): Promise<boolean> {
  const { dev, ino } = await system.stat(outer);
  let before: number | undefined;
  for (let way = path; ; way = `${way}/..`) {
    const stats = await system.stat(way);
    if (stats.dev === dev && stats.ino === ino) return true;
    // The root is above itself.
    if (stats.ino === before) return false;
    before = stats.ino;
  }
}
