import type { KeyState } from '../provider.js';

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

export interface KeyringSlot {
  slotId: string;
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

export interface KeyringDocument {
  format: 1;
  storeId: string;
  generation: number;
  slots: KeyringSlot[];
  keks: KeyringKek[];
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
 * Where the keyring and the records live. Every promise that resolves means: durable. Ids have matched KEY_ID_PATTERN
 * before they come here. One process owns a store.
 */
export interface KeyStore {
  /** The keyring, undefined if there is none yet. Throws DamagedDocument. */
  readKeyring(): Promise<KeyringDocument | undefined>;
  /** Replaces the keyring atomically. */
  writeKeyring(document: KeyringDocument): Promise<void>;
  /** A record, undefined if there is none. Throws DamagedDocument. Its `mac` is not checked here. */
  readRecord(keyId: string): Promise<KeyMeta | undefined>;
  /** Adds a record; CONFLICT if the id is taken. */
  createRecord(record: KeyMeta): Promise<void>;
  /** Replaces the record whose version is `record.version - 1`; CONFLICT if it is another or destroyed. */
  replaceRecord(record: KeyMeta): Promise<void>;
  /** The same, blocking: for synchronous callers that ran out of reserved uses. */
  replaceRecordSync(record: KeyMeta): void;
  readRecordSync(keyId: string): KeyMeta | undefined;
  /** Up to `limit` key ids after `after`, ascending by code unit. */
  listKeyIds(after: string | undefined, limit: number): Promise<string[]>;
  /**
   * Why writes are refused, null while they are not. While it is not null, what was read may not be durable either: after a
   * lost fsync a read still answers from memory with what the disk may not have.
   */
  fault(): string | null;
  close(): Promise<void>;
}
