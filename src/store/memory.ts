import { KmsError } from '../errors.js';
import { SortedNames } from './key-names.js';
import type { KeyMeta, KeyringDocument, KeyStore } from './key-store.js';
import { refuseUnlessNext } from './succession.js';

/** A store that is gone with the process: for tests and for `--dev`. */
export function openMemoryStore(): KeyStore {
  return new MemoryStore();
}

// Documents are copied in and out: a caller that changes its own must not have changed the store. Field by field, since a
// structured clone of a small Buffer takes the whole pool along that it is a view of.

function copyOfRecord(record: KeyMeta): KeyMeta {
  return { ...record, wrapped: new Uint8Array(record.wrapped), mac: new Uint8Array(record.mac) };
}

function copyOfKeyring(document: KeyringDocument): KeyringDocument {
  return {
    ...document,
    slots: document.slots.map((slot) => ({
      ...slot,
      salt: new Uint8Array(slot.salt),
      root: new Uint8Array(slot.root),
      slotKey: new Uint8Array(slot.slotKey),
    })),
    keks: document.keks.map((kek) => ({ ...kek, wrapped: new Uint8Array(kek.wrapped) })),
    recordMac: new Uint8Array(document.recordMac),
    auditKeys: document.auditKeys.map((key) => ({
      ...key,
      publicKey: new Uint8Array(key.publicKey),
      wrapped: new Uint8Array(key.wrapped),
    })),
    sha256: new Uint8Array(document.sha256),
    mac: new Uint8Array(document.mac),
  };
}

class MemoryStore implements KeyStore {
  readonly #records = new Map<string, KeyMeta>();
  readonly #names = new SortedNames();
  #keyring: KeyringDocument | undefined;
  #closed = false;

  async readKeyring(): Promise<KeyringDocument | undefined> {
    this.#refuseClosed();
    return this.#keyring && copyOfKeyring(this.#keyring);
  }

  async writeKeyring(document: KeyringDocument): Promise<void> {
    this.#refuseClosed();
    this.#keyring = copyOfKeyring(document);
  }

  async readRecord(keyId: string): Promise<KeyMeta | undefined> {
    return this.readRecordSync(keyId);
  }

  async createRecord(record: KeyMeta): Promise<void> {
    this.#refuseClosed();
    if (this.#records.has(record.keyId)) throw new KmsError('CONFLICT', 'the key id is taken');
    this.#records.set(record.keyId, copyOfRecord(record));
    this.#names.add(record.keyId);
  }

  async replaceRecord(record: KeyMeta): Promise<void> {
    this.replaceRecordSync(record);
  }

  replaceRecordSync(record: KeyMeta): void {
    this.#refuseClosed();
    refuseUnlessNext(this.#records.get(record.keyId), record.version);
    this.#records.set(record.keyId, copyOfRecord(record));
  }

  readRecordSync(keyId: string): KeyMeta | undefined {
    this.#refuseClosed();
    const record = this.#records.get(keyId);
    return record && copyOfRecord(record);
  }

  async listKeyIds(after: string | undefined, limit: number): Promise<string[]> {
    this.#refuseClosed();
    return this.#names.page(after, limit);
  }

  fault(): string | null {
    return null;
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  #refuseClosed(): void {
    if (this.#closed) throw new KmsError('STORE_UNAVAILABLE', 'the store is closed');
  }
}
