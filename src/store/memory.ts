import { KmsError } from '../errors.js';
import { copyOfKeyring, copyOfRecord } from './copies.js';
import { SortedNames } from './key-names.js';
import type { KeyMeta, KeyringDocument, KeyStore, RecordBackups, SealedDocuments } from './key-store.js';
import { MemoryBackups } from './memory-backups.js';
import { MemoryDocuments } from './memory-documents.js';
import { refuseUnlessNext } from './succession.js';

/** A store that is gone with the process: for tests and for `--dev`. */
export function openMemoryStore(): KeyStore {
  return new MemoryStore();
}

class MemoryStore implements KeyStore {
  readonly #records = new Map<string, KeyMeta>();
  readonly #names = new SortedNames();
  #keyring: KeyringDocument | undefined;
  #closed = false;
  readonly backups: RecordBackups = new MemoryBackups({
    refuseClosed: () => this.#refuseClosed(),
    record: (keyId) => this.#records.get(keyId),
    keyring: () => this.#keyring,
    remove: (keyId) => {
      this.#records.delete(keyId);
      this.#names.remove(keyId);
    },
  });

  readonly sealed: SealedDocuments = new MemoryDocuments(() => this.#refuseClosed());

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
