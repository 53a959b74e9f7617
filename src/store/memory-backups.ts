import { KmsError } from '../errors.js';
import { copyOfKeyring, copyOfRecord } from './copies.js';
import { SortedNames } from './key-names.js';
import type { KeyMeta, KeyringDocument, RecordBackups } from './key-store.js';

/** What the backups need of the store whose records they keep. */
export interface BackedUpRecords {
  refuseClosed(): void;
  record(keyId: string): KeyMeta | undefined;
  keyring(): KeyringDocument | undefined;
  remove(keyId: string): void;
}

interface Kept {
  records: Map<string, KeyMeta>;
  /** Set aside while an older state of the same record was kept. */
  aside: Map<string, KeyMeta>;
  keyring: KeyringDocument | undefined;
}

function versionOf(rotationId: string): number {
  return Number(rotationId.slice(1, rotationId.indexOf('-')));
}

export class MemoryBackups implements RecordBackups {
  readonly #store: BackedUpRecords;
  readonly #rotations = new Map<string, Kept>();

  constructor(store: BackedUpRecords) {
    this.#store = store;
  }

  #kept(rotationId: string): Kept {
    const kept = this.#rotations.get(rotationId) ?? { records: new Map(), aside: new Map(), keyring: undefined };
    this.#rotations.set(rotationId, kept);
    return kept;
  }

  #found(keyId: string): KeyMeta {
    this.#store.refuseClosed();
    const record = this.#store.record(keyId);
    if (record === undefined) throw new KmsError('KEY_NOT_FOUND');
    return copyOfRecord(record);
  }

  async keep(rotationId: string, keyId: string): Promise<void> {
    const record = this.#found(keyId);
    const { records } = this.#kept(rotationId);
    if (!records.has(keyId)) records.set(keyId, record);
  }

  async keepKeyring(rotationId: string): Promise<void> {
    this.#store.refuseClosed();
    const keyring = this.#store.keyring();
    if (keyring === undefined) throw new KmsError('STORE_UNAVAILABLE', 'there is no keyring to keep');
    this.#kept(rotationId).keyring ??= copyOfKeyring(keyring);
  }

  async read(rotationId: string, keyId: string): Promise<KeyMeta | undefined> {
    this.#store.refuseClosed();
    const record = this.#rotations.get(rotationId)?.records.get(keyId);
    return record && copyOfRecord(record);
  }

  async listKeyIds(rotationId: string, after: string | undefined, limit: number): Promise<string[]> {
    this.#store.refuseClosed();
    return new SortedNames([...(this.#rotations.get(rotationId)?.records.keys() ?? [])]).page(after, limit);
  }

  async list(): Promise<string[]> {
    this.#store.refuseClosed();
    const holds = ({ records, aside, keyring }: Kept) => records.size + aside.size > 0 || keyring !== undefined;
    const found = [...this.#rotations].flatMap(([rotationId, kept]) => (holds(kept) ? [rotationId] : []));
    return found.sort((a, b) => versionOf(a) - versionOf(b) || (a < b ? -1 : 1));
  }

  async drop(rotationId: string): Promise<void> {
    this.#store.refuseClosed();
    this.#rotations.delete(rotationId);
  }

  async dropKeyrings(): Promise<void> {
    this.#store.refuseClosed();
    for (const kept of this.#rotations.values()) kept.keyring = undefined;
  }

  async forget(keyId: string): Promise<void> {
    this.#store.refuseClosed();
    for (const { records, aside } of this.#rotations.values()) {
      records.delete(keyId);
      aside.delete(keyId);
    }
  }

  async setAside(rotationId: string, keyId: string): Promise<void> {
    const record = this.#found(keyId);
    const { records, aside } = this.#kept(rotationId);
    (records.has(keyId) ? aside : records).set(keyId, record);
    this.#store.remove(keyId);
  }
}
