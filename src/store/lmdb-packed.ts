import type { PackedRecord, PackedRecords } from './key-store.js';
import type { LmdbEnvironment } from './lmdb-environment.js';
import { backupsOf, RECORDS } from './lmdb-names.js';
import type { LmdbWriter } from './lmdb-writer.js';

/** What the parts of a store have of it. */
export interface StoreParts {
  writer: LmdbWriter;
  refuseClosed(): void;
}

interface Move {
  keyId: string;
  before: Uint8Array;
  after: Uint8Array;
}

/** Nothing is copied on the way to LMDB: the bytes given must stay as they are until the promise settles. */
export class LmdbPacked implements PackedRecords {
  readonly #store: StoreParts;

  constructor(store: StoreParts) {
    this.#store = store;
  }

  readSync(keyId: string): Uint8Array | undefined {
    this.#store.refuseClosed();
    return this.#store.writer.environment.getFast(RECORDS.keyOf(keyId));
  }

  page(after: string | undefined, limit: number): PackedRecord[] {
    this.#store.refuseClosed();
    const entries = this.#store.writer.environment.range(RECORDS.after(after, limit));
    return entries.map(({ key, value }) => ({ keyId: RECORDS.idOf(key), bytes: value }));
  }

  async createMany(records: readonly PackedRecord[]): Promise<boolean[]> {
    this.#store.refuseClosed();
    const entries = records.map(({ keyId, bytes }) => ({ key: RECORDS.keyOf(keyId), value: bytes }));
    const bytes = entries.reduce((sum, { value }) => sum + value.length, 0);
    const apply = (environment: LmdbEnvironment) => entries.map(({ key, value }) => environment.putNew(key, value));
    return this.#store.writer.write({ apply, bytes, added: entries });
  }

  async moveMany(rotationId: string, moves: readonly Move[]): Promise<boolean[]> {
    this.#store.refuseClosed();
    const backups = backupsOf(rotationId);
    return this.#store.writer.writeAll(
      moves.map(({ keyId, before, after }) => {
        const key = RECORDS.keyOf(keyId);
        const backup = backups.keyOf(keyId);
        const apply = (environment: LmdbEnvironment) => {
          const found = environment.found(key);
          if (found === undefined || Buffer.compare(found, before) !== 0) return false;
          environment.putNew(backup, before);
          environment.put(key, after);
          return true;
        };
        return { apply, bytes: before.length + after.length };
      }),
    );
  }

  backupSync(rotationId: string, keyId: string): Uint8Array | undefined {
    this.#store.refuseClosed();
    return this.#store.writer.environment.getFast(backupsOf(rotationId).keyOf(keyId));
  }
}
