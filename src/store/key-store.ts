import { KmsError } from '../errors.js';
import type { KeyState } from '../provider.js';
import type { SharedStore } from './shared-store.js';

/** What keeps the records of a data directory. */
export const STORE_KINDS = ['files', 'lmdb'] as const;
export type StoreKind = (typeof STORE_KINDS)[number];

/** A key's record, as docs/FORMATS.md lays it down. `threadId` is '' for a key without a thread; `wrapped` is empty once destroyed. */
export interface KeyMeta {
  format: 1;
  storeId: string;
  keyId: string;
  threadId: string;
  alg: 'A256GCM';
  state: KeyState;
  version: number;
  wrapped: Uint8Array;
  kekId: string;
  kekVersion: number;
  usesReserved: number;
  createdAt: string;
  updatedAt: string;
  createdBy: string;
  mac: Uint8Array;
}

/** What opens the keyring: an operator's master key, or a key that was split into recovery shares. */
export type SlotKind = 'master' | 'recovery';
/**
 * `pending` was added beside the others and awaits a start that uses it; `successor` came with a rotation: once a start has
 * used it, the older master slots go.
 */
export type SlotState = 'active' | 'pending' | 'successor';

export interface KeyringSlot {
  slotId: string;
  kind: SlotKind;
  state: SlotState;
  /** '' for never. An active slot never expires. */
  expiresAt: string;
  salt: Uint8Array;
  /** The root key under this slot's key. */
  root: Uint8Array;
  /** This slot's key under the root key, so that a new root key can be given to it without its master. */
  slotKey: Uint8Array;
  createdAt: string;
}

export interface KeyringKek {
  kekId: string;
  kekVersion: number;
  state: 'active' | 'decrypt-only';
  wrapped: Uint8Array;
  wrapsReserved: number;
  createdAt: string;
}

/** A key that signs checkpoints of the audit log (Ed25519, RFC 8032). */
export interface AuditKey {
  publicKey: Uint8Array;
  /** The 32 bytes of the private key under the root key. */
  wrapped: Uint8Array;
  createdAt: string;
}

/** Format 1 is read, and written as 2 at its next change. */
export interface KeyringDocument {
  format: 1 | 2;
  storeId: string;
  generation: number;
  slots: KeyringSlot[];
  keks: KeyringKek[];
  /** The record MAC key under the root key; empty in format 1, where it is derived from the root key. */
  recordMac: Uint8Array;
  /** The one in use, then its successor while that is being announced. None before the first audit log. */
  auditKeys: AuditKey[];
  /** '' before the first use of the default key. */
  defaultKeyId: string;
  sha256: Uint8Array;
  mac: Uint8Array;
}

/** Thrown (as the cause of a STORE_UNAVAILABLE) for a document that cannot be what the service wrote. */
export class DamagedDocument extends Error {
  override name = 'DamagedDocument';
}

/**
 * What a write rests upon is no longer so: another daemon of the same store has written the keyring since. Whoever gets this
 * reads the keyring again and makes what it writes anew.
 */
export class Superseded extends KmsError {
  constructor(detail: string) {
    super('CONFLICT', detail);
  }
}

/** What a keyring takes the place of, in a store that others write, too. */
export interface KeyringChange {
  /** The generation before; 0 for none. Superseded if it is another by now. */
  before: number;
  /** With another root key: what becomes of each key that signs the audit log of a daemon. */
  auditKey?: (key: AuditKey) => AuditKey;
}

/**
 * Records as they were before a rotation rewrapped them. A rotation id has matched ROTATION_ID_PATTERN before it comes here.
 * As of a store, every promise that resolves means: durable.
 */
export interface RecordBackups {
  /** Keeps the record as it is now; the one that is kept already stays. KEY_NOT_FOUND if there is none. */
  keep(rotationId: string, keyId: string): Promise<void>;
  /** Keeps the keyring as it is now; the one that is kept already stays. */
  keepKeyring(rotationId: string): Promise<void>;
  /** Undefined if none is kept. Throws DamagedDocument. */
  read(rotationId: string, keyId: string): Promise<KeyMeta | undefined>;
  /** Ids of the keys of which a record is kept, as `listKeyIds`. */
  listKeyIds(rotationId: string, after: string | undefined, limit: number): Promise<string[]>;
  /** The rotations of which anything is kept, the oldest first. */
  list(): Promise<string[]>;
  /** Removes all that is kept of a rotation. */
  drop(rotationId: string): Promise<void>;
  /** Removes the kept keyrings of all rotations: what was a master key before opens none of them afterwards. */
  dropKeyrings(): Promise<void>;
  /** Removes the record of a key wherever it is kept: for a key that is destroyed. */
  forget(keyId: string): Promise<void>;
  /** Takes the record out of the store and keeps it with the rotation as it is, readable or not. */
  setAside(rotationId: string, keyId: string): Promise<void>;
}

/** A record as its canonical bytes (`canonicalRecord`) and then its MAC: docs/FORMATS.md. */
export interface PackedRecord {
  keyId: string;
  bytes: Uint8Array;
}

/**
 * Many records at once, as native code reads and makes them. The MACs are not checked here. What is read comes from memory
 * that the operating system maps: it is there at once, or after the page fault of a record that nobody used for long.
 */
export interface PackedRecords {
  /** Undefined if there is none. The bytes are good until the next call of any method. */
  readSync(keyId: string): Uint8Array | undefined;
  /** Up to `limit` records after `after`, ascending by key id, of one moment. */
  page(after: string | undefined, limit: number): PackedRecord[];
  /** Adds those records whose ids are free. Resolves, in their order, to whether each was. */
  createMany(records: readonly PackedRecord[]): Promise<boolean[]>;
  /**
   * In one transaction: each record whose bytes are still `before` is replaced by `after`, and `before` is kept as its backup of the
   * rotation unless one is kept already. Resolves, in their order, to whether each was replaced.
   */
  moveMany(
    rotationId: string,
    moves: ReadonlyArray<{ keyId: string; before: Uint8Array; after: Uint8Array }>,
  ): Promise<boolean[]>;
  /** The record that is kept of a rotation, as `readSync`. */
  backupSync(rotationId: string, keyId: string): Uint8Array | undefined;
}

/**
 * Documents of client-sealed databases, opaque to the store and of at most MAX_SEALED_DOCUMENT_BYTES. Names match
 * `^[0-9a-f]{32}(/[0-9a-f]{32})?$`: a database, and what is in it. As of a store, every promise that resolves means: durable.
 */
export interface SealedDocuments {
  read(name: string): Promise<Uint8Array | undefined>;
  /**
   * Puts a document in the place of `before`, undefined for none; CONFLICT if it is another one there by now, or if the database
   * that it is in is not there. `kekId`: the KEK that it stands under; Superseded where that is not the active one any more.
   */
  write(name: string, document: Uint8Array, before: Uint8Array | undefined, kekId?: string): Promise<void>;
  /** Up to `limit` names after `after`, ascending, that begin with `prefix`: `<database>/`, or '' for the names of databases alone. */
  list(prefix: string, after: string | undefined, limit: number): Promise<string[]>;
  /** Removes a database's document and all that is in it. */
  drop(database: string): Promise<void>;
}

/** What data keys stand on: records alone, of a store or of a database in it. */
export type RecordStore = Pick<
  KeyStore,
  'readRecord' | 'createRecord' | 'replaceRecord' | 'replaceRecordSync' | 'readRecordSync' | 'listKeyIds' | 'fault'
> & { readonly backups: Pick<RecordBackups, 'forget'>; readonly packed?: PackedRecords; readonly shared?: SharedStore };

/** Something of a store under a name of docs/FORMATS.md, "Entries": a record packed, or a keyring as its JSON. Without bytes, why. */
export type StoredEntry = { name: string; bytes: Uint8Array } | { name: string; fault: string };

/**
 * All that a store holds beside its keyring and its sealed documents, as it is: for moving it to another store. Nobody writes to
 * either meanwhile.
 */
export interface StoredEntries {
  /** Up to `limit` entries after the one of that name, ascending. */
  page(after: string | undefined, limit: number): Promise<StoredEntry[]>;
  /** Puts each in the place of what is there. */
  put(entries: ReadonlyArray<{ name: string; bytes: Uint8Array }>): Promise<void>;
  remove(names: readonly string[]): Promise<void>;
}

/**
 * Where the keyring and the records live. Every promise that resolves means: durable. Ids have matched KEY_ID_PATTERN
 * before they come here. One process owns a store, unless it is `shared`.
 */
export interface KeyStore {
  /** The keyring, undefined if there is none yet. Throws DamagedDocument. */
  readKeyring(): Promise<KeyringDocument | undefined>;
  /** Replaces the keyring atomically. A store that is not shared need not ask what it takes the place of. */
  writeKeyring(document: KeyringDocument, change?: KeyringChange): Promise<void>;
  /** A record, undefined if there is none. Throws DamagedDocument. Its `mac` is not checked here. */
  readRecord(keyId: string): Promise<KeyMeta | undefined>;
  /** Adds a record; CONFLICT if the id is taken. */
  createRecord(record: KeyMeta): Promise<void>;
  /** Replaces the record whose version is `record.version - 1`; CONFLICT if it is another or destroyed. */
  replaceRecord(record: KeyMeta): Promise<void>;
  /** The same, blocking: for synchronous callers that ran out of reserved uses. UNSUPPORTED where that cannot be had. */
  replaceRecordSync(record: KeyMeta): void;
  readRecordSync(keyId: string): KeyMeta | undefined;
  /** Up to `limit` key ids after `after`, ascending by code unit. */
  listKeyIds(after: string | undefined, limit: number): Promise<string[]>;
  /** Of the records of this store; closed with it. */
  readonly backups: RecordBackups;
  /** Where the store can handle many records at once. */
  readonly packed?: PackedRecords;
  /** Where the store can be moved to another one, or from it. */
  readonly entries?: StoredEntries;
  /** Where other daemons use it at the same time. */
  readonly shared?: SharedStore;
  /** Of client-sealed databases; closed with the store. */
  readonly sealed: SealedDocuments;
  /**
   * Why writes are refused, null while they are not. While it is not null, what was read may not be durable either: after a
   * lost fsync a read still answers from memory with what the disk may not have.
   */
  fault(): string | null;
  close(): Promise<void>;
}
