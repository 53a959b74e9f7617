import { KmsError } from '../errors.js';
import type { KeyMeta, RecordBackups } from './key-store.js';
import type { KeyringFile } from './keyring-file.js';
import type { LmdbEnvironment } from './lmdb-environment.js';
import { asideOf, BACKUP_KINDS, backupsOf, KEYRINGS, type Names, RECORDS } from './lmdb-names.js';
import type { StoreParts } from './lmdb-packed.js';

/** Entries that one transaction removes of a rotation: the event loop is kept for a few milliseconds. */
const SLICE = 1_000;

export interface BackupParts extends StoreParts {
  keyring: KeyringFile;
  recordOf(keyId: string, bytes: Uint8Array): KeyMeta;
}

function versionOf(rotationId: string): number {
  return Number(rotationId.slice(1, rotationId.indexOf('-')));
}

/**
 * Copies in the same file as the records. What is kept, set aside or forgotten of one key is one transaction: no crash leaves a
 * record in two places or in none.
 */
export class LmdbBackups implements RecordBackups {
  readonly #store: BackupParts;

  constructor(store: BackupParts) {
    this.#store = store;
  }

  get #environment(): LmdbEnvironment {
    this.#store.refuseClosed();
    return this.#store.writer.environment;
  }

  async keep(rotationId: string, keyId: string): Promise<void> {
    const record = RECORDS.keyOf(keyId);
    const backup = backupsOf(rotationId).keyOf(keyId);
    await this.#write((environment) => environment.putNew(backup, copyOf(environment, record)));
  }

  async keepKeyring(rotationId: string): Promise<void> {
    this.#store.refuseClosed();
    const key = KEYRINGS.keyOf(rotationId);
    const bytes = await this.#store.keyring.bytes();
    if (bytes === undefined) throw new KmsError('STORE_UNAVAILABLE', 'there is no keyring to keep');
    await this.#write((environment) => environment.putNew(key, bytes));
  }

  async read(rotationId: string, keyId: string): Promise<KeyMeta | undefined> {
    const bytes = this.#environment.getFast(backupsOf(rotationId).keyOf(keyId));
    return bytes && this.#store.recordOf(keyId, bytes);
  }

  async listKeyIds(rotationId: string, after: string | undefined, limit: number): Promise<string[]> {
    const names = backupsOf(rotationId);
    return this.#environment.keys(names.after(after, limit)).map((key) => names.idOf(key));
  }

  async list(): Promise<string[]> {
    const found = new Set(BACKUP_KINDS.flatMap((kind) => rotationsOf(this.#environment, kind)));
    return [...found].sort((a, b) => versionOf(a) - versionOf(b) || (a < b ? -1 : 1));
  }

  /**
   * In slices, the keyring first: what was a master key before is soonest of no use. What a crash leaves of it is still listed, and
   * dropped by the next one. A slice is looked for inside its transaction, so that nothing that is kept meanwhile is passed over.
   */
  async drop(rotationId: string): Promise<void> {
    const keyring = KEYRINGS.keyOf(rotationId);
    const kinds = [backupsOf(rotationId), asideOf(rotationId)];
    await this.#write((environment) => environment.remove(keyring));
    for (const names of kinds) while (await this.#write((environment) => removeSome(environment, names)));
  }

  async dropKeyrings(): Promise<void> {
    await this.#write((environment) => {
      for (const rotationId of rotationsOf(environment, KEYRINGS.prefix)) environment.remove(KEYRINGS.keyOf(rotationId));
    });
  }

  async forget(keyId: string): Promise<void> {
    RECORDS.keyOf(keyId);
    await this.#write((environment) => {
      for (const rotationId of rotationsOf(environment, 'b/')) environment.remove(backupsOf(rotationId).keyOf(keyId));
      for (const rotationId of rotationsOf(environment, 's/')) environment.remove(asideOf(rotationId).keyOf(keyId));
    });
  }

  async setAside(rotationId: string, keyId: string): Promise<void> {
    const record = RECORDS.keyOf(keyId);
    const [backup, aside] = [backupsOf(rotationId).keyOf(keyId), asideOf(rotationId).keyOf(keyId)];
    await this.#write((environment) => {
      const bytes = copyOf(environment, record);
      if (!environment.putNew(backup, bytes)) environment.put(aside, bytes);
      environment.remove(record);
    });
  }

  #write<T>(apply: (environment: LmdbEnvironment) => T): Promise<T> {
    this.#store.refuseClosed();
    return this.#store.writer.write({ apply, bytes: 0 });
  }
}

/** What stands there, in memory that the next call leaves as it is. */
function copyOf(environment: LmdbEnvironment, key: string): Uint8Array {
  const found = environment.found(key);
  if (found === undefined) throw new KmsError('KEY_NOT_FOUND');
  return Uint8Array.prototype.slice.call(found);
}

/** Each with one step, however many entries it has. */
function rotationsOf(environment: LmdbEnvironment, kind: string): string[] {
  const found: string[] = [];
  // '0' is the character after '/'.
  for (let from = kind; ; from = `${kind}${found.at(-1)}0`) {
    const [key] = environment.keys({ from, to: `${kind}\x7f`, limit: 1 });
    if (key === undefined) return found;
    found.push(key.slice(kind.length).split('/', 1)[0] as string);
  }
}

/** Whether there may be more. */
function removeSome(environment: LmdbEnvironment, names: Names): boolean {
  const keys = environment.keys(names.after(undefined, SLICE));
  for (const key of keys) environment.remove(key);
  return keys.length === SLICE;
}
