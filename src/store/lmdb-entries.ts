import { DamagedDocument, type StoredEntries, type StoredEntry } from './key-store.js';
import type { LmdbEnvironment } from './lmdb-environment.js';
import { ENTRY_KINDS } from './lmdb-names.js';
import type { StoreParts } from './lmdb-packed.js';
import { unpacked } from './packed.js';

/** The keys of the file are the names: docs/FORMATS.md. */
export class LmdbEntries implements StoredEntries {
  readonly #store: StoreParts;

  constructor(store: StoreParts) {
    this.#store = store;
  }

  async page(after: string | undefined, limit: number): Promise<StoredEntry[]> {
    this.#store.refuseClosed();
    const { environment } = this.#store.writer;
    const found: StoredEntry[] = [];
    for (const kind of ENTRY_KINDS) {
      const from = after === undefined || after < kind ? kind : `${after} `;
      const entries = environment.range({ from, to: `${kind}\x7f`, limit: limit - found.length });
      found.push(...entries.map(({ key, value }) => checked(key, value)));
    }
    return found;
  }

  async put(entries: ReadonlyArray<{ name: string; bytes: Uint8Array }>): Promise<void> {
    this.#store.refuseClosed();
    await this.#store.writer.writeAll(
      entries.map(({ name, bytes }) => ({
        apply: (environment: LmdbEnvironment) => environment.put(name, bytes),
        bytes: bytes.length,
      })),
    );
  }

  async remove(names: readonly string[]): Promise<void> {
    this.#store.refuseClosed();
    await this.#store.writer.writeAll(
      names.map((name) => ({ apply: (environment: LmdbEnvironment) => environment.remove(name), bytes: 0 })),
    );
  }
}

function checked(name: string, bytes: Uint8Array): StoredEntry {
  if (name.startsWith('k/')) return { name, bytes };
  try {
    const { keyId } = unpacked(bytes);
    return name.endsWith(`/${keyId}`) ? { name, bytes } : { name, fault: `swapped: the entry holds the record of ${keyId}` };
  } catch (error) {
    if (error instanceof DamagedDocument) return { name, fault: error.message };
    throw error;
  }
}
