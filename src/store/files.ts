import { join, resolve } from 'node:path';
import { KmsError } from '../errors.js';
import { MAX_RECORD_BYTES } from '../limits.js';
import { binding } from '../native.js';
import { type Owner, PROBE_NAME, prepareDirectory, removeLeftovers } from './data-directory.js';
import { recordJson } from './document-json.js';
import { readable, strictly } from './documents.js';
import { DurableDirectory } from './durable-directory.js';
import { FileBackups, fileOf } from './file-backups.js';
import { FileDocuments } from './file-documents.js';
import { FileEntries } from './file-entries.js';
import { errnoOf, type FileSystem, nodeFileSystem } from './file-system.js';
import { DirectoryNames } from './key-names.js';
import { DamagedDocument, type KeyMeta, type KeyringDocument, type KeyStore } from './key-store.js';
import { KeyringFile, prepareKeyringDirectory } from './keyring-file.js';
import { refuseUnlessNext } from './succession.js';
import { Turnstile } from './turnstile.js';
import { WriteLatch } from './write-latch.js';

export interface FileStoreOptions {
  dataDir: string;
  fileSystem?: FileSystem;
}

export const RECORDS_DIRECTORY = 'kms-deks';
/** Files open at once for asynchronous calls: far above what keeps the thread pool busy, far below the usual limit of 1,024. */
const OPEN_FILES = 64;
/** As large as the largest record, so that space for the probe is space for the write that comes after it. */
const PROBE = new Uint8Array(MAX_RECORD_BYTES);

function parsedRecord(keyId: string, bytes: Uint8Array): KeyMeta {
  const record = strictly(binding.parseRecord, bytes);
  if (record.keyId !== keyId) throw new DamagedDocument(`swapped: the file holds the record of ${record.keyId}`);
  return record;
}

/**
 * The default store: one JSON file per record, laid out as docs/FORMATS.md says. The caller holds the lock of the data
 * directory. Throws PERMISSION_DENIED for a directory or keyring that others can reach, with the command that mends it.
 *
 * No update is lost between asynchronous and blocking writers, because every replacement is decided and done in one
 * synchronous step: read the current record, compare versions, rename. JavaScript runs nothing between these, so the
 * renames of a record form one sequence in which each was compared with the one directly before it. A blocking write that
 * comes while an asynchronous one is staging its file wins, and the asynchronous one finds another version and is refused.
 * One that comes after the rename, while the directory is being synced, builds on the new record: it may make that
 * durable a little early, which is harmless, and whoever waits for the fsync still waits for one begun after its rename.
 */
export async function openFileStore(options: FileStoreOptions): Promise<KeyStore> {
  const system = options.fileSystem ?? nodeFileSystem;
  const dataDir = resolve(options.dataDir);
  const recordsDir = join(dataDir, RECORDS_DIRECTORY);
  const latch = new WriteLatch();
  const turnstile = new Turnstile(OPEN_FILES);
  try {
    const owner = await prepareKeyringDirectory(system, dataDir);
    await prepareDirectory(system, recordsDir, owner);
    await removeLeftovers(system, recordsDir);
    const top = await DurableDirectory.open(dataDir, system, latch, turnstile);
    try {
      const records = await DurableDirectory.open(recordsDir, system, latch, turnstile);
      try {
        // What a killed process renamed and did not sync is read from here on, and told as durable.
        await Promise.all([top.sync(), records.sync()]);
      } catch (error) {
        await records.close();
        throw error;
      }
      return new FileStore({ system, latch, turnstile, owner, top, records });
    } catch (error) {
      await top.close();
      throw error;
    }
  } catch (error) {
    if (error instanceof KmsError) throw error;
    const { syscall = 'open', path = dataDir } = error as NodeJS.ErrnoException;
    throw new KmsError('STORE_UNAVAILABLE', `${errnoOf(error) || 'failure'} at ${syscall} ${path}`, { cause: error });
  }
}

interface Parts {
  system: FileSystem;
  latch: WriteLatch;
  turnstile: Turnstile;
  owner: Owner | undefined;
  top: DurableDirectory;
  records: DurableDirectory;
}

class FileStore implements KeyStore {
  readonly backups: FileBackups;
  readonly sealed: FileDocuments;
  readonly entries: FileEntries;
  readonly #latch: WriteLatch;
  readonly #top: DurableDirectory;
  readonly #records: DurableDirectory;
  readonly #names: DirectoryNames;
  readonly #keyring: KeyringFile;
  #probing: Promise<void> | undefined;
  #writing = 0;
  #drained: (() => void) | undefined;
  #closing: Promise<void> | undefined;

  constructor(parts: Parts) {
    const { system, latch, top, records } = parts;
    this.#latch = latch;
    this.#top = top;
    this.#records = records;
    this.#names = new DirectoryNames(system, records.path);
    this.#keyring = new KeyringFile(system, top);
    const shared = {
      ...parts,
      refuseClosed: () => this.#refuseClosed(),
      write: (steps: () => Promise<void>) => this.#write(steps),
    };
    this.backups = new FileBackups({ ...shared, parse: parsedRecord });
    this.sealed = new FileDocuments(shared);
    this.entries = new FileEntries({ ...shared, names: this.#names, backups: this.backups, parse: parsedRecord });
  }

  async readKeyring(): Promise<KeyringDocument | undefined> {
    this.#refuseClosed();
    return this.#keyring.read();
  }

  async writeKeyring(document: KeyringDocument): Promise<void> {
    await this.#write(this.#keyring.replacement(document));
  }

  async readRecord(keyId: string): Promise<KeyMeta | undefined> {
    this.#refuseClosed();
    const bytes = await this.#records.read(fileOf(keyId), MAX_RECORD_BYTES);
    return bytes && parsedRecord(keyId, bytes);
  }

  readRecordSync(keyId: string): KeyMeta | undefined {
    this.#refuseClosed();
    return this.#current(keyId);
  }

  async createRecord(record: KeyMeta): Promise<void> {
    const { keyId } = record;
    const file = fileOf(keyId);
    const bytes = readable(binding.parseRecord, recordJson(record));
    await this.#write(async () => {
      await this.#records.publishNew(await this.#records.stage(file, bytes), file);
      this.#names.created(keyId);
      await this.#records.sync();
    });
  }

  async replaceRecord(record: KeyMeta): Promise<void> {
    const { keyId, version } = record;
    const file = fileOf(keyId);
    const bytes = readable(binding.parseRecord, recordJson(record));
    await this.#write(async () => {
      this.#commitSync(await this.#records.stage(file, bytes), keyId, version);
      await this.#records.sync();
    });
  }

  replaceRecordSync(record: KeyMeta): void {
    const { keyId, version } = record;
    const file = fileOf(keyId);
    const bytes = readable(binding.parseRecord, recordJson(record));
    this.#refuseClosed();
    this.#latch.refuseIfLost();
    if (this.#latch.isFull()) {
      this.#records.discardSync(this.#records.stageSync(PROBE_NAME, PROBE));
      this.#latch.foundSpace();
    }
    this.#commitSync(this.#records.stageSync(file, bytes), keyId, version);
    this.#records.syncSync();
  }

  async listKeyIds(after: string | undefined, limit: number): Promise<string[]> {
    this.#refuseClosed();
    try {
      return await this.#names.page(after, limit);
    } catch (cause) {
      throw new KmsError('STORE_UNAVAILABLE', `${errnoOf(cause) || 'failure'} at listing the keys`, { cause });
    }
  }

  fault(): string | null {
    return this.#latch.reason();
  }

  close(): Promise<void> {
    this.#closing ??= this.#finish();
    return this.#closing;
  }

  async #finish(): Promise<void> {
    // A write under way syncs the directory through a descriptor that must still be this directory's.
    if (this.#writing > 0) await new Promise<void>((resolve) => (this.#drained = resolve));
    await this.backups.close();
    await this.sealed.close();
    await this.#top.close();
    await this.#records.close();
  }

  #refuseClosed(): void {
    if (this.#closing !== undefined) throw new KmsError('STORE_UNAVAILABLE', 'the store is closed');
  }

  /** Not refused while the store closes: writes that were accepted before finish. */
  #current(keyId: string): KeyMeta | undefined {
    const bytes = this.#records.readSync(fileOf(keyId), MAX_RECORD_BYTES);
    return bytes && parsedRecord(keyId, bytes);
  }

  /** The synchronous step of every replacement: see `openFileStore`. */
  #commitSync(temporary: string, keyId: string, version: number): void {
    try {
      refuseUnlessNext(this.#current(keyId), version);
    } catch (error) {
      this.#records.discardSync(temporary);
      throw error;
    }
    this.#records.replaceSync(temporary, fileOf(keyId));
  }

  /** Runs a write between the two questions whether writes may be believed, and counts it for `close`. */
  async #write(steps: () => Promise<void>): Promise<void> {
    this.#refuseClosed();
    this.#writing += 1;
    try {
      this.#latch.refuseIfLost();
      if (this.#latch.isFull()) await this.#probe();
      await steps();
      this.#latch.refuseIfLost();
    } finally {
      this.#writing -= 1;
      if (this.#writing === 0) this.#drained?.();
    }
  }

  #probe(): Promise<void> {
    this.#probing ??= this.#records
      .stage(PROBE_NAME, PROBE)
      .then((temporary) => this.#records.discard(temporary))
      .then(() => this.#latch.foundSpace())
      .finally(() => {
        this.#probing = undefined;
      });
    return this.#probing;
  }
}
