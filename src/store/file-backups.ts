import { join } from 'node:path';
import { KmsError } from '../errors.js';
import { KEY_ID_PATTERN, MAX_RECORD_BYTES, ROTATION_ID_PATTERN } from '../limits.js';
import { type Owner, prepareDirectory } from './data-directory.js';
import { DurableDirectory } from './durable-directory.js';
import { errnoOf, type FileSystem } from './file-system.js';
import { DirectoryNames } from './key-names.js';
import type { KeyMeta, RecordBackups } from './key-store.js';
import { KEYRING } from './keyring-file.js';
import { Turnstile } from './turnstile.js';
import type { WriteLatch } from './write-latch.js';

/** What the backups share with the store whose records they keep. */
export interface BackedUpStore {
  system: FileSystem;
  latch: WriteLatch;
  turnstile: Turnstile;
  /** Where root leaves files to another user. */
  owner: Owner | undefined;
  top: DurableDirectory;
  records: DurableDirectory;
  parse(keyId: string, bytes: Uint8Array): KeyMeta;
  refuseClosed(): void;
  /** Runs a write as one of the store. */
  write(steps: () => Promise<void>): Promise<void>;
}

export const BACKUPS_DIRECTORY = 'kms-deks-backup';
/** Removals under way at once. */
const REMOVALS = 32;

export function fileOf(keyId: string): string {
  if (!KEY_ID_PATTERN.test(keyId)) throw new KmsError('INVALID_ARGUMENT', 'not a key id');
  return `${keyId}.json`;
}

/** Where a record goes that is set aside while its older state is kept. */
export function asideFileOf(keyId: string): string {
  return `${keyId}.set-aside.json`;
}

function versionOf(rotationId: string): number {
  return Number(rotationId.slice(1, rotationId.indexOf('-')));
}

interface Kept {
  directory: DurableDirectory;
  names: DirectoryNames;
}

/**
 * Hard links of the files as they were: replacing a record gives its name to another file, and leaves this one as it is. A
 * backup is durable before `keep` resolves, and only then is the record rewrapped: no crash leaves a rewrapped record without
 * its backup, and a backup without a rewrapped record is one that `keep` finds when it is asked again.
 */
export class FileBackups implements RecordBackups {
  readonly #store: BackedUpStore;
  readonly #path: string;
  readonly #opened = new Map<string, Promise<Kept>>();

  constructor(store: BackedUpStore) {
    this.#store = store;
    this.#path = join(store.top.path, BACKUPS_DIRECTORY);
  }

  async keep(rotationId: string, keyId: string): Promise<void> {
    const file = fileOf(keyId);
    await this.#store.write(async () => {
      const { directory } = await this.#made(rotationId);
      if (!(await directory.adopt(join(this.#store.records.path, file), file))) throw new KmsError('KEY_NOT_FOUND');
      // Also where it was kept already: by a call that has not made it durable yet.
      await directory.sync();
    });
  }

  async keepKeyring(rotationId: string): Promise<void> {
    await this.#store.write(async () => {
      const { directory } = await this.#made(rotationId);
      if (!(await directory.adopt(join(this.#store.top.path, KEYRING), KEYRING))) {
        throw new KmsError('STORE_UNAVAILABLE', 'there is no keyring to keep');
      }
      await directory.sync();
    });
  }

  async read(rotationId: string, keyId: string): Promise<KeyMeta | undefined> {
    this.#store.refuseClosed();
    const kept = await this.#existing(rotationId);
    const bytes = await kept?.directory.read(fileOf(keyId), MAX_RECORD_BYTES);
    return bytes && this.#store.parse(keyId, bytes);
  }

  async listKeyIds(rotationId: string, after: string | undefined, limit: number): Promise<string[]> {
    this.#store.refuseClosed();
    return (await this.#existing(rotationId))?.names.page(after, limit) ?? [];
  }

  async list(): Promise<string[]> {
    this.#store.refuseClosed();
    const found: string[] = [];
    for (const name of await this.#entries(this.#path)) {
      if (ROTATION_ID_PATTERN.test(name) && (await this.#entries(join(this.#path, name))).length > 0) found.push(name);
    }
    return found.sort((a, b) => versionOf(a) - versionOf(b) || (a < b ? -1 : 1));
  }

  /** What a crash leaves of it is dropped by the next one: a rotation without its keyring or some of its records is still listed. */
  async drop(rotationId: string): Promise<void> {
    await this.#store.write(async () => {
      const kept = await this.#existing(rotationId);
      if (kept === undefined) return;
      const { directory } = kept;
      const names = await this.#entries(directory.path);
      const removals = new Turnstile(REMOVALS);
      await Promise.all(names.map((name) => removals.through(() => directory.remove(name))));
      await directory.sync();
      await this.#forgetOpened(rotationId);
      await this.#store.system.rmdir(directory.path).catch((error) => {
        if (errnoOf(error) !== 'ENOENT') throw this.#store.latch.failed(error);
      });
    });
  }

  async dropKeyrings(): Promise<void> {
    await this.#removeEverywhere([KEYRING]);
  }

  async forget(keyId: string): Promise<void> {
    await this.#removeEverywhere([fileOf(keyId), asideFileOf(keyId)]);
  }

  /**
   * A name that is free is looked for first, because a rename would take the place of a sound backup. The new name is durable
   * before the removal of the old one is: a crash between the two leaves the record under at least one of them.
   */
  async setAside(rotationId: string, keyId: string): Promise<void> {
    const file = fileOf(keyId);
    await this.#store.write(async () => {
      const { directory } = await this.#made(rotationId);
      const name = (await this.#entries(directory.path)).includes(file) ? asideFileOf(keyId) : file;
      if (!(await directory.take(join(this.#store.records.path, file), name))) throw new KmsError('KEY_NOT_FOUND');
      await directory.sync();
      await this.#store.records.sync();
    });
  }

  async close(): Promise<void> {
    for (const rotationId of [...this.#opened.keys()]) await this.#forgetOpened(rotationId);
  }

  async #removeEverywhere(names: readonly string[]): Promise<void> {
    await this.#store.write(async () => {
      for (const rotationId of await this.#entries(this.#path)) {
        const kept = ROTATION_ID_PATTERN.test(rotationId) ? await this.#existing(rotationId) : undefined;
        if (kept === undefined) continue;
        const removed = await Promise.all(names.map((name) => kept.directory.remove(name)));
        if (removed.includes(true)) await kept.directory.sync();
      }
    });
  }

  /** The names in a directory; none if it is not there. */
  async #entries(path: string): Promise<string[]> {
    try {
      return await this.#store.system.readdir(path);
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return [];
      throw this.#failure(error, path);
    }
  }

  #failure(error: unknown, path: string): unknown {
    const errno = errnoOf(error);
    return errno === '' ? error : new KmsError('STORE_UNAVAILABLE', `${errno} at ${path}`, { cause: error });
  }

  async #existing(rotationId: string): Promise<Kept | undefined> {
    const known = this.#opened.get(rotationId);
    if (known !== undefined) return known;
    const path = join(this.#path, rotationId);
    try {
      await this.#store.system.lstat(path);
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined;
      throw this.#failure(error, path);
    }
    return this.#made(rotationId);
  }

  /** Where the files of a rotation lie; made if it is not there. */
  placeOf(rotationId: string): Promise<Kept> {
    return this.#made(rotationId);
  }

  /** One opening for all who want a rotation's directory at once. */
  #made(rotationId: string): Promise<Kept> {
    if (!ROTATION_ID_PATTERN.test(rotationId)) throw new KmsError('INVALID_ARGUMENT', 'not a rotation id');
    let made = this.#opened.get(rotationId);
    if (made === undefined) {
      made = this.#make(rotationId);
      this.#opened.set(rotationId, made);
      made.catch(() => this.#opened.delete(rotationId));
    }
    return made;
  }

  async #make(rotationId: string): Promise<Kept> {
    const { system, latch, turnstile, owner } = this.#store;
    const path = join(this.#path, rotationId);
    try {
      for (const each of [this.#path, path]) await prepareDirectory(system, each, owner);
      return { directory: await DurableDirectory.open(path, system, latch, turnstile), names: new DirectoryNames(system, path) };
    } catch (error) {
      throw latch.failed(error);
    }
  }

  async #forgetOpened(rotationId: string): Promise<void> {
    const opened = this.#opened.get(rotationId);
    this.#opened.delete(rotationId);
    // One that failed to open has told its callers, and left nothing to close.
    const kept = await opened?.catch(() => undefined);
    await kept?.directory.close();
  }
}
