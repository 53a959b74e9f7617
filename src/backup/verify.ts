import { KmsError } from '../errors.js';
import { Keyring } from '../kms/keyring.js';
import { readKeyring } from '../kms/keyring-document.js';
import { checkOpens } from '../kms/snapshot.js';
import { DEFAULT_ARENA_BYTES } from '../limits.js';
import { binding } from '../native.js';
import { canonicalRecord } from '../store/canonical.js';
import { type FileSystem, nodeFileSystem } from '../store/file-system.js';
import type { KeyMeta, KeyringDocument } from '../store/key-store.js';
import { openMemoryStore } from '../store/memory.js';
import { type Handle, type MasterSource, Vault } from '../vault.js';
import { readEntries, reasonOf, sealParts } from './backup-reader.js';
import { Documents, type SoundDocument } from './documents.js';
import {
  type AuditHead,
  canonicalBackup,
  damaged,
  ENTRY_HEADER_BYTES,
  MAC_INFO,
  type Manifest,
  parseAuditHead,
  parseManifest,
} from './format.js';

export type { MasterSource };

/** Everything of a backup but its records. */
export interface Scanned {
  path: string;
  bytes: number;
  manifest: Manifest;
  keyring: KeyringDocument;
  tokens: Uint8Array | undefined;
  audit: AuditHead | undefined;
  digest: Uint8Array;
  mac: Uint8Array;
  /** Whether the digest is that of the bytes. */
  isWhole: boolean;
}

/** Reads a backup once and keeps all but its records, the order of which is checked. Throws INVALID_ARGUMENT if it has been cut or mixed up. */
export async function scanBackup(path: string, system: FileSystem = nodeFileSystem): Promise<Scanned> {
  const parts = new Map<string, Uint8Array>();
  const counts = { record: 0, document: 0 };
  for await (const entry of readEntries(system, path)) {
    if (entry.name === 'record' || entry.name === 'document') {
      counts[entry.name] += 1;
      continue;
    }
    parts.set(entry.name, entry.bytes);
    if (entry.name !== 'seal') continue;
    const [manifest, keyring] = [parts.get('manifest'), parts.get('keyring')];
    if (manifest === undefined || keyring === undefined) throw damaged(path, 'it has no keyring or no manifest');
    const { digest, mac } = sealParts(entry.bytes);
    const audit = parts.get('audit');
    const scanned = {
      path,
      bytes: entry.at + ENTRY_HEADER_BYTES + entry.bytes.length,
      manifest: parseManifest(path, entry.version, manifest),
      keyring: await keyringOf(path, keyring),
      tokens: parts.get('tokens'),
      audit: audit && parseAuditHead(path, audit),
      digest,
      mac,
      isWhole: Buffer.from(entry.digest as Uint8Array).equals(digest),
    };
    checkManifest(scanned, counts);
    return scanned;
  }
  throw damaged(path, 'it has no seal');
}

export async function keyringOf(path: string, bytes: Uint8Array): Promise<KeyringDocument> {
  try {
    const store = openMemoryStore();
    await store.writeKeyring(binding.parseKeyring(bytes));
    return (await readKeyring(store)) as KeyringDocument;
  } catch (error) {
    if (error instanceof KmsError && error.code === 'UNSUPPORTED') throw error;
    throw damaged(path, `its keyring: ${reasonOf(error)}`, error);
  }
}

function checkManifest({ path, manifest, keyring }: Scanned, { record, document }: { record: number; document: number }): void {
  if (manifest.records !== record) throw damaged(path, `it holds ${record} records, and says ${manifest.records}`);
  if (manifest.documents !== document) throw damaged(path, `it holds ${document} documents, and says ${manifest.documents}`);
  if (manifest.storeId !== keyring.storeId || manifest.generation !== keyring.generation)
    throw damaged(path, 'its manifest is of another keyring');
}

/** A backup that a master key opens. Whoever opened it closes the vault. */
export interface OpenedBackup extends Scanned {
  vault: Vault;
  master: Handle;
  opened: Keyring;
}

/** Opens the keyring of a backup and checks its MAC. UNAUTHENTICATED for a wrong master key. */
export function openBackup(scanned: Scanned, source: MasterSource): OpenedBackup {
  const vault = Vault.open({ arenaBytes: DEFAULT_ARENA_BYTES, keptContexts: 0 }, 1);
  try {
    const master = vault.readMaster(source);
    const opened = Keyring.open(vault, openMemoryStore(), master, scanned.keyring);
    return { ...scanned, vault, master, opened };
  } catch (error) {
    vault.close();
    throw error instanceof KmsError && error.code === 'STORE_UNAVAILABLE' ? damaged(scanned.path, reasonOf(error), error) : error;
  }
}

/** Throws INVALID_ARGUMENT unless every byte is as `backup create` wrote it, with this keyring. */
export async function checkSeal(backup: OpenedBackup): Promise<void> {
  const { path, manifest, digest, mac, vault, opened, isWhole } = backup;
  if (!isWhole) throw damaged(path, 'its checksum does not match');
  const { macKey } = await opened.snapshot(MAC_INFO);
  if (!vault.macMatches(macKey, canonicalBackup(manifest, digest), mac)) {
    throw damaged(path, 'it was tampered with: its authentication code does not match');
  }
}

/** Why a record or a database of a backup is not to be restored. */
export interface BadRecord {
  keyId: string;
  reason: string;
}

function faultOf({ vault, opened }: OpenedBackup, record: KeyMeta, before: string): string | undefined {
  if (record.keyId <= before) return `it is out of order, after that of ${before}`;
  if (record.storeId !== opened.storeId) return 'it belongs to another store';
  if (!vault.macMatches(opened.recordMac, canonicalRecord(record), record.mac)) return 'its authentication code does not match';
  try {
    checkOpens(vault, opened, record);
    return undefined;
  } catch (error) {
    if (error instanceof KmsError && error.code === 'AUTHENTICATION_FAILED') return 'its wrapped key does not open';
    return reasonOf(error);
  }
}

/**
 * Reads a backup once more, verifies each record, unwraps its key and drops it again; the good ones go to `use`, the others are
 * yielded. So are databases: of each its own document is opened, and what is in it, which only its secret opens, has to follow it.
 * Throws INVALID_ARGUMENT if the file is not the one that was scanned.
 */
export async function* badRecords(
  backup: OpenedBackup,
  use: (record: KeyMeta) => Promise<void> | void,
  system: FileSystem = nodeFileSystem,
  useDocument: (document: SoundDocument) => Promise<void> | void = () => {},
): AsyncGenerator<BadRecord> {
  const { path } = backup;
  const documents = new Documents(backup);
  let before = '';
  let number = 0;
  for await (const { name, bytes, digest } of readEntries(system, path)) {
    if (name === 'seal' && backup.isWhole && !Buffer.from(digest as Uint8Array).equals(backup.digest)) {
      throw damaged(path, 'it was changed while it was read');
    }
    if (name === 'document') {
      const found = documents.take(bytes);
      if ('reason' in found) yield found;
      else await useDocument(found);
    }
    if (name !== 'record') continue;
    number += 1;
    let record: KeyMeta;
    try {
      record = binding.parseRecord(bytes);
    } catch (error) {
      yield { keyId: `record ${number}`, reason: reasonOf(error) };
      continue;
    }
    const reason = faultOf(backup, record, before);
    before = record.keyId > before ? record.keyId : before;
    if (reason !== undefined) yield { keyId: record.keyId, reason };
    else await use(record);
  }
}
