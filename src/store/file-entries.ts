import { MAX_KEYRING_BYTES, MAX_RECORD_BYTES } from '../limits.js';
import { binding } from '../native.js';
import { recordJson } from './document-json.js';
import { readable } from './documents.js';
import type { DurableDirectory } from './durable-directory.js';
import { asideFileOf, type FileBackups, fileOf } from './file-backups.js';
import type { FileSystem } from './file-system.js';
import type { DirectoryNames } from './key-names.js';
import { DamagedDocument, type KeyMeta, type StoredEntries, type StoredEntry } from './key-store.js';
import { KEYRING } from './keyring-file.js';
import { packed, unpacked } from './packed.js';

/** What the entries share with the store that they are of. */
export interface EntryStore {
  system: FileSystem;
  records: DurableDirectory;
  names: DirectoryNames;
  backups: FileBackups;
  parse(keyId: string, bytes: Uint8Array): KeyMeta;
  refuseClosed(): void;
  write(steps: () => Promise<void>): Promise<void>;
}

interface Place {
  directory: DurableDirectory;
  file: string;
  /** Undefined for a keyring. */
  keyId: string | undefined;
}

/** Names as docs/FORMATS.md has them, each a file: `r/<key>`, and `b/<rotation>/<key>`, `k/<rotation>`, `s/<rotation>/<key>` of a rotation. */
export class FileEntries implements StoredEntries {
  readonly #store: EntryStore;

  constructor(store: EntryStore) {
    this.#store = store;
  }

  async page(after: string | undefined, limit: number): Promise<StoredEntry[]> {
    this.#store.refuseClosed();
    const names: string[] = [];
    for (const list of [this.#backups, this.#keyrings, this.#records, this.#aside]) {
      if (names.length < limit) names.push(...(await list.call(this, after ?? '', limit - names.length)));
    }
    return Promise.all(names.map((name) => this.#read(name)));
  }

  async put(entries: ReadonlyArray<{ name: string; bytes: Uint8Array }>): Promise<void> {
    const touched = new Set<DurableDirectory>();
    await this.#store.write(async () => {
      const puts = entries.map(async ({ name, bytes }) => {
        const { directory, file, keyId } = await this.#placeOf(name);
        // What the strict reader refuses would be a file that nobody can open again.
        const content = keyId === undefined ? bytes : readable(binding.parseRecord, recordJson(unpacked(bytes)));
        directory.replaceSync(await directory.stage(file, content), file);
        touched.add(directory);
      });
      const failed = (await Promise.allSettled(puts)).find((result) => result.status === 'rejected');
      if (failed !== undefined) throw failed.reason;
      for (const directory of touched) await directory.sync();
    });
  }

  async remove(names: readonly string[]): Promise<void> {
    await this.#store.write(async () => {
      for (const name of names) {
        const { directory, file } = await this.#placeOf(name);
        await directory.remove(file);
        await directory.sync();
      }
    });
  }

  async #placeOf(name: string): Promise<Place> {
    const [kind, first = '', second = ''] = name.split('/');
    if (kind === 'r') return { directory: this.#store.records, file: fileOf(first), keyId: first };
    const { directory } = await this.#store.backups.placeOf(first);
    if (kind === 'k') return { directory, file: KEYRING, keyId: undefined };
    const file = fileOf(second);
    return { directory, file: kind === 's' ? asideFileOf(second) : file, keyId: second };
  }

  async #read(name: string): Promise<StoredEntry> {
    const { directory, file, keyId } = await this.#placeOf(name);
    try {
      const bytes = await directory.read(file, keyId === undefined ? MAX_KEYRING_BYTES : MAX_RECORD_BYTES);
      if (bytes === undefined) return { name, fault: 'it is gone' };
      return { name, bytes: keyId === undefined ? bytes : packed(this.#store.parse(keyId, bytes)) };
    } catch (error) {
      if (error instanceof DamagedDocument) return { name, fault: error.message };
      throw error;
    }
  }

  async #records(after: string, limit: number): Promise<string[]> {
    return pageOf(this.#store.names, 'r/', after, limit);
  }

  async #backups(after: string, limit: number): Promise<string[]> {
    const found: string[] = [];
    for (const rotationId of await this.#rotations()) {
      const { names } = await this.#store.backups.placeOf(rotationId);
      if (found.length < limit) found.push(...(await pageOf(names, `b/${rotationId}/`, after, limit - found.length)));
    }
    return found;
  }

  async #keyrings(after: string, limit: number): Promise<string[]> {
    const found: string[] = [];
    for (const rotationId of await this.#rotations()) {
      const name = `k/${rotationId}`;
      if (name > after && (await this.#filesOf(rotationId)).includes(KEYRING)) found.push(name);
    }
    return found.slice(0, limit);
  }

  async #aside(after: string, limit: number): Promise<string[]> {
    const found: string[] = [];
    for (const rotationId of await this.#rotations()) {
      for (const file of await this.#filesOf(rotationId)) {
        const [, keyId] = /^(k_[0-9a-z]{1,64})\.set-aside\.json$/.exec(file) ?? [];
        if (keyId !== undefined) found.push(`s/${rotationId}/${keyId}`);
      }
    }
    return found
      .filter((name) => name > after)
      .sort()
      .slice(0, limit);
  }

  /** In the order of their names. */
  async #rotations(): Promise<string[]> {
    return (await this.#store.backups.list()).sort();
  }

  async #filesOf(rotationId: string): Promise<string[]> {
    return this.#store.system.readdir((await this.#store.backups.placeOf(rotationId)).directory.path);
  }
}

/** The names after `after` that begin with `prefix`. */
async function pageOf(names: DirectoryNames, prefix: string, after: string, limit: number): Promise<string[]> {
  if (after > `${prefix}\x7f`) return [];
  const ids = await names.page(after.startsWith(prefix) ? after.slice(prefix.length) : undefined, limit);
  return ids.map((id) => `${prefix}${id}`);
}
