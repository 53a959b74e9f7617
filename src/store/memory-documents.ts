import { databaseOfPrefix, noDatabase, partsOf, refuseLong, refuseUnlessSame } from './document-names.js';
import type { SealedDocuments } from './key-store.js';

/** Sealed documents that are gone with the process. */
export class MemoryDocuments implements SealedDocuments {
  readonly #documents = new Map<string, Uint8Array>();
  readonly #refuseClosed: () => void;

  constructor(refuseClosed: () => void) {
    this.#refuseClosed = refuseClosed;
  }

  async read(name: string): Promise<Uint8Array | undefined> {
    this.#refuseClosed();
    partsOf(name);
    return this.#documents.get(name)?.slice();
  }

  async write(name: string, document: Uint8Array, before: Uint8Array | undefined): Promise<void> {
    this.#refuseClosed();
    const [database, inner] = partsOf(name);
    refuseLong(document);
    if (inner !== undefined && !this.#documents.has(database)) throw noDatabase();
    refuseUnlessSame(this.#documents.get(name), before);
    this.#documents.set(name, document.slice());
  }

  async list(prefix: string, after: string | undefined, limit: number): Promise<string[]> {
    this.#refuseClosed();
    const database = databaseOfPrefix(prefix);
    const isOf = (name: string) => (database === undefined ? !name.includes('/') : name.startsWith(prefix));
    const names = [...this.#documents.keys()].filter((name) => isOf(name) && (after === undefined || name > after));
    return names.sort().slice(0, limit);
  }

  async drop(database: string): Promise<void> {
    this.#refuseClosed();
    partsOf(database);
    for (const name of [...this.#documents.keys()]) {
      if (name === database || name.startsWith(`${database}/`)) this.#documents.delete(name);
    }
  }
}
