import { databaseOfPrefix, noDatabase, partsOf, refuseLong, refuseUnlessSame } from './document-names.js';
import type { SealedDocuments } from './key-store.js';
import type { LmdbEnvironment } from './lmdb-environment.js';
import { DATABASES, documentKey, within } from './lmdb-names.js';
import type { StoreParts } from './lmdb-packed.js';

/** Entries that one transaction removes of a database: the event loop is kept for a few milliseconds. */
const SLICE = 1_000;

/** In the same file as the records, a database's own document apart from those in it, so that databases are listed in one walk. */
export class LmdbSealed implements SealedDocuments {
  readonly #store: StoreParts;

  constructor(store: StoreParts) {
    this.#store = store;
  }

  get #environment(): LmdbEnvironment {
    this.#store.refuseClosed();
    return this.#store.writer.environment;
  }

  async read(name: string): Promise<Uint8Array | undefined> {
    return this.#environment.get(documentKey(name));
  }

  async write(name: string, document: Uint8Array, before: Uint8Array | undefined): Promise<void> {
    const key = documentKey(name);
    const [database, inner] = partsOf(name);
    refuseLong(document);
    const bytes = Uint8Array.from(document);
    const expected = before && Uint8Array.from(before);
    await this.#write(bytes.length, (environment) => {
      if (inner !== undefined && environment.found(DATABASES.keyOf(database)) === undefined) throw noDatabase();
      refuseUnlessSame(environment.found(key), expected);
      environment.put(key, bytes);
    });
  }

  async list(prefix: string, after: string | undefined, limit: number): Promise<string[]> {
    const environment = this.#environment;
    const database = databaseOfPrefix(prefix);
    const names = database === undefined ? DATABASES : within(database);
    const query = names.after(after?.slice(prefix.length), limit);
    return environment.keys(query).map((key) => prefix + names.idOf(key));
  }

  /**
   * The database's document goes first: without it what is in it opens for nobody, and nothing more is written into it. What a crash
   * leaves of the rest is removed by the next call.
   */
  async drop(database: string): Promise<void> {
    const key = DATABASES.keyOf(database);
    const inside = within(database);
    await this.#write(0, (environment) => environment.remove(key));
    const removeSome = (environment: LmdbEnvironment) => {
      const keys = environment.keys(inside.after(undefined, SLICE));
      for (const each of keys) environment.remove(each);
      return keys.length === SLICE;
    };
    while (await this.#write(0, removeSome));
  }

  #write<T>(bytes: number, apply: (environment: LmdbEnvironment) => T): Promise<T> {
    this.#store.refuseClosed();
    return this.#store.writer.write({ apply, bytes });
  }
}
