import { join } from 'node:path';
import { KmsError } from '../errors.js';
import { MAX_SEALED_DOCUMENT_BYTES } from '../limits.js';
import { type Owner, prepareDirectory, removeLeftovers } from './data-directory.js';
import { databaseOfPrefix, noDatabase, partsOf, refuseLong, refuseUnlessSame } from './document-names.js';
import { DurableDirectory } from './durable-directory.js';
import { errnoOf, type FileSystem } from './file-system.js';
import { DirectoryNames, type Form } from './key-names.js';
import type { SealedDocuments } from './key-store.js';
import { OpenDirectories } from './open-directories.js';
import { Turnstile } from './turnstile.js';
import type { WriteLatch } from './write-latch.js';

/** What the documents share with the store that they are of. */
export interface DocumentStore {
  system: FileSystem;
  latch: WriteLatch;
  turnstile: Turnstile;
  /** Where root leaves files to another user. */
  owner: Owner | undefined;
  top: DurableDirectory;
  refuseClosed(): void;
  /** Runs a write as one of the store. */
  write(steps: () => Promise<void>): Promise<void>;
}

export const DATABASES_DIRECTORY = 'kms-databases';
const OF_DATABASES: Form = { pattern: /^([0-9a-f]{32})\.database$/, fileOf: (database) => `${database}.database` };
const OF_DOCUMENTS: Form = { pattern: /^([0-9a-f]{32})$/, fileOf: (name) => name };
const LEFTOVER = /^\.[0-9a-f]{32}(\.database)?\.[0-9a-f]{16}\.tmp$/;
/** Removals under way at once. */
const REMOVALS = 32;

/** A directory and the names in it. */
class Place {
  readonly directory: DurableDirectory;
  readonly names: DirectoryNames;
  readonly #form: Form;

  constructor(system: FileSystem, directory: DurableDirectory, form: Form) {
    this.directory = directory;
    this.names = new DirectoryNames(system, directory.path, form);
    this.#form = form;
  }

  read(name: string): Promise<Uint8Array | undefined> {
    return this.directory.read(this.#form.fileOf(name), MAX_SEALED_DOCUMENT_BYTES);
  }

  has(name: string): boolean {
    return this.directory.readSync(this.#form.fileOf(name), MAX_SEALED_DOCUMENT_BYTES) !== undefined;
  }

  /** `check` runs in the synchronous step in which the document takes its place. */
  async put(name: string, document: Uint8Array, before: Uint8Array | undefined, check: () => void): Promise<void> {
    const file = this.#form.fileOf(name);
    const temporary = await this.directory.stage(file, document);
    try {
      check();
      refuseUnlessSame(this.directory.readSync(file, MAX_SEALED_DOCUMENT_BYTES), before);
    } catch (error) {
      this.directory.discardSync(temporary);
      throw error;
    }
    this.directory.replaceSync(temporary, file);
    if (before === undefined) this.names.created(name);
    await this.directory.sync();
  }

  async remove(name: string): Promise<void> {
    await this.directory.remove(this.#form.fileOf(name));
    await this.directory.sync();
  }

  close(): Promise<void> {
    return this.directory.close();
  }
}

/**
 * One file per document: `kms-databases/<database>.database`, and `kms-databases/<database>/<name>` for what is in it.
 *
 * Crash story: a document is staged, synced, and takes its place by one rename, so that a crash leaves it as it was before or
 * after; the comparison with what its writer had read and the rename are one synchronous step, in which no other write runs. A
 * database is dropped from its own document on: once that is durably gone nothing opens the others, which the drop
 * removes next, and which another drop of the same name finds when a crash has left them.
 */
export class FileDocuments implements SealedDocuments {
  readonly #store: DocumentStore;
  readonly #path: string;
  readonly #directories = new OpenDirectories((database) => this.#open(join(this.#path, database), OF_DOCUMENTS));
  #root: Promise<Place> | undefined;

  constructor(store: DocumentStore) {
    this.#store = store;
    this.#path = join(store.top.path, DATABASES_DIRECTORY);
  }

  async read(name: string): Promise<Uint8Array | undefined> {
    this.#store.refuseClosed();
    const [database, inner] = partsOf(name);
    const root = await this.#existing();
    if (root === undefined || inner === undefined) return root?.read(database);
    if (!(await this.#isThere(join(this.#path, database)))) return undefined;
    return this.#directories.use(database, (place) => place.read(inner));
  }

  async write(name: string, document: Uint8Array, before: Uint8Array | undefined): Promise<void> {
    const [database, inner] = partsOf(name);
    refuseLong(document);
    const own = Uint8Array.from(document);
    await this.#store.write(async () => {
      const root = await this.#made();
      if (inner === undefined) return root.put(database, own, before, () => {});
      const refuseIfGone = () => {
        if (!root.has(database)) throw noDatabase();
      };
      // Before its directory is made, and again when the document takes its place.
      refuseIfGone();
      await this.#directories.use(database, (place) => place.put(inner, own, before, refuseIfGone));
    });
  }

  async list(prefix: string, after: string | undefined, limit: number): Promise<string[]> {
    this.#store.refuseClosed();
    const database = databaseOfPrefix(prefix);
    const root = await this.#existing();
    if (root === undefined || database === undefined) return root?.names.page(after, limit) ?? [];
    if (!(await this.#isThere(join(this.#path, database)))) return [];
    const inner = after?.slice(prefix.length);
    const names = await this.#directories.use(database, (place) => place.names.page(inner, limit));
    return names.map((name) => `${prefix}${name}`);
  }

  async drop(database: string): Promise<void> {
    const [known] = partsOf(database);
    await this.#store.write(async () => {
      const root = await this.#existing();
      if (root === undefined) return;
      await root.remove(known);
      const path = join(this.#path, known);
      if (await this.#isThere(path)) await this.#empty(known, path);
    });
  }

  async #empty(database: string, path: string): Promise<void> {
    await this.#directories.use(database, async ({ directory }) => {
      const removals = new Turnstile(REMOVALS);
      const names = await this.#store.system.readdir(path);
      await Promise.all(names.map((name) => removals.through(() => directory.remove(name))));
      await directory.sync();
    });
    await this.#directories.forget(database);
    await this.#store.system.rmdir(path).catch((error) => {
      // Somebody who is being refused has staged a file there: an empty directory stays, which is nothing.
      if (!['ENOENT', 'ENOTEMPTY', 'EEXIST'].includes(errnoOf(error))) throw this.#store.latch.failed(error);
    });
  }

  async close(): Promise<void> {
    await this.#directories.close();
    await (await this.#root?.catch(() => undefined))?.close();
  }

  async #existing(): Promise<Place | undefined> {
    return this.#root !== undefined || (await this.#isThere(this.#path)) ? this.#made() : undefined;
  }

  #made(): Promise<Place> {
    if (this.#root === undefined) {
      const root = this.#open(this.#path, OF_DATABASES);
      this.#root = root;
      root.catch(() => {
        if (this.#root === root) this.#root = undefined;
      });
    }
    return this.#root;
  }

  async #isThere(path: string): Promise<boolean> {
    try {
      await this.#store.system.lstat(path);
      return true;
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return false;
      throw new KmsError('STORE_UNAVAILABLE', `${errnoOf(error) || 'failure'} at ${path}`, { cause: error });
    }
  }

  /** Made if it is not there. What a killed process renamed and did not sync is read from here on, and told as durable. */
  async #open(path: string, form: Form): Promise<Place> {
    const { system, latch, turnstile, owner } = this.#store;
    try {
      await prepareDirectory(system, path, owner);
      await removeLeftovers(system, path, LEFTOVER);
      const directory = await DurableDirectory.open(path, system, latch, turnstile);
      try {
        await directory.sync();
      } catch (error) {
        await directory.close();
        throw error;
      }
      return new Place(system, directory, form);
    } catch (error) {
      throw latch.failed(error);
    }
  }
}
