import { resolve } from 'node:path';
import { KmsError } from '../errors.js';
import { DurableDirectory } from './durable-directory.js';
import { errnoOf, nodeFileSystem as system } from './file-system.js';
import { DamagedDocument, type KeyMeta, type KeyringDocument, type KeyStore } from './key-store.js';
import { KeyringFile, prepareKeyringDirectory } from './keyring-file.js';
import { LmdbBackups } from './lmdb-backups.js';
import { LmdbDirectory } from './lmdb-directory.js';
import { LmdbEntries } from './lmdb-entries.js';
import { type Lmdb, LmdbEnvironment } from './lmdb-environment.js';
import { FORMAT, FORMAT_KEY, RECORDS } from './lmdb-names.js';
import { LmdbPacked } from './lmdb-packed.js';
import { LmdbSealed } from './lmdb-sealed.js';
import { LmdbWriter } from './lmdb-writer.js';
import { packed, unpacked } from './packed.js';
import { refuseUnlessNext } from './succession.js';
import { Turnstile } from './turnstile.js';
import { WriteLatch } from './write-latch.js';

export const KEYS_FILE = 'keys.lmdb';
/** Files open at once: those of a keyring that is being replaced or read. */
const OPEN_FILES = 4;

function recordOf(keyId: string, bytes: Uint8Array): KeyMeta {
  const record = unpacked(bytes);
  if (record.keyId !== keyId) throw new DamagedDocument(`swapped: the entry holds the record of ${record.keyId}`);
  return record;
}

/**
 * The store for millions of keys: all records in one LMDB file, `keys.lmdb`, packed; the keyring beside it as in the files store.
 * The caller holds the lock of the data directory. Throws PERMISSION_DENIED for a directory or file that others can reach,
 * STORE_UNAVAILABLE for a file that is damaged, UNSUPPORTED for one of a newer format.
 */
export async function openLmdbStore(options: { dataDir: string }): Promise<KeyStore> {
  const dataDir = resolve(options.dataDir);
  const latch = new WriteLatch();
  try {
    // An addon of its own, which only those load who keep keys in it.
    const lmdb = await import('lmdb');
    const owner = await prepareKeyringDirectory(system, dataDir);
    const directory = await LmdbDirectory.within(dataDir, KEYS_FILE, owner);
    const top = await DurableDirectory.open(dataDir, system, latch, new Turnstile(OPEN_FILES));
    try {
      const environment = await openRecords(lmdb, directory);
      return new LmdbStore({ latch, top, writer: new LmdbWriter({ lmdb, directory, environment, latch }) });
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

async function openRecords(lmdb: Lmdb, directory: LmdbDirectory): Promise<LmdbEnvironment> {
  if (await directory.isNew()) await makeRecords(lmdb, directory);
  await directory.ready();
  const environment = new LmdbEnvironment(lmdb, directory.file);
  try {
    const format = environment.get(FORMAT_KEY);
    if (format === undefined) throw new KmsError('STORE_UNAVAILABLE', `${directory.file} holds no keys`);
    const name = Buffer.from(format).toString('latin1');
    if (name !== FORMAT) throw new KmsError('UNSUPPORTED', `${directory.file} has format ${name}, this version knows ${FORMAT}`);
    await directory.sync();
    return environment;
  } catch (error) {
    await environment.close();
    throw error;
  }
}

/** The file comes to be as a whole: with its format, synced, and then renamed. A crash before leaves one that the next start removes. */
async function makeRecords(lmdb: Lmdb, directory: LmdbDirectory): Promise<void> {
  const scratch = await directory.newScratch();
  try {
    const environment = new LmdbEnvironment(lmdb, scratch);
    try {
      await environment.write(() => environment.put(FORMAT_KEY, Buffer.from(FORMAT)));
    } finally {
      await environment.close();
    }
    await directory.syncScratch(scratch);
    await directory.replace(scratch);
  } catch (error) {
    await directory.dropScratch(scratch);
    throw error;
  }
}

interface Parts {
  latch: WriteLatch;
  top: DurableDirectory;
  writer: LmdbWriter;
}

/**
 * No update is lost between asynchronous and blocking writers: every one reads the current record and replaces it in one
 * transaction, and LMDB has one writer at a time.
 */
class LmdbStore implements KeyStore {
  readonly backups: LmdbBackups;
  readonly packed: LmdbPacked;
  readonly sealed: LmdbSealed;
  readonly entries: LmdbEntries;
  readonly #latch: WriteLatch;
  readonly #top: DurableDirectory;
  readonly #writer: LmdbWriter;
  readonly #keyring: KeyringFile;
  #closing: Promise<void> | undefined;

  constructor({ latch, top, writer }: Parts) {
    this.#latch = latch;
    this.#top = top;
    this.#writer = writer;
    this.#keyring = new KeyringFile(system, top);
    const parts = { writer, keyring: this.#keyring, recordOf, refuseClosed: () => this.#refuseClosed() };
    this.backups = new LmdbBackups(parts);
    this.packed = new LmdbPacked(parts);
    this.sealed = new LmdbSealed(parts);
    this.entries = new LmdbEntries(parts);
  }

  async readKeyring(): Promise<KeyringDocument | undefined> {
    this.#refuseClosed();
    return this.#keyring.read();
  }

  async writeKeyring(document: KeyringDocument): Promise<void> {
    this.#refuseClosed();
    const replace = this.#keyring.replacement(document);
    this.#latch.refuseIfLost();
    await replace();
    this.#latch.foundSpace();
  }

  async readRecord(keyId: string): Promise<KeyMeta | undefined> {
    return this.readRecordSync(keyId);
  }

  readRecordSync(keyId: string): KeyMeta | undefined {
    const bytes = this.packed.readSync(keyId);
    return bytes && recordOf(keyId, bytes);
  }

  async createRecord(record: KeyMeta): Promise<void> {
    const [isMade] = await this.packed.createMany([{ keyId: record.keyId, bytes: packed(record) }]);
    if (!isMade) throw new KmsError('CONFLICT', 'the key id is taken');
  }

  async replaceRecord(record: KeyMeta): Promise<void> {
    await this.#writer.write(this.#replacement(record));
  }

  replaceRecordSync(record: KeyMeta): void {
    this.#writer.writeSync(this.#replacement(record));
  }

  #replacement(record: KeyMeta) {
    this.#refuseClosed();
    const { keyId, version } = record;
    const key = RECORDS.keyOf(keyId);
    const bytes = packed(record);
    const apply = (environment: LmdbEnvironment) => {
      const found = environment.found(key);
      refuseUnlessNext(found && recordOf(keyId, found), version);
      environment.put(key, bytes);
    };
    return { apply, bytes: bytes.length };
  }

  async listKeyIds(after: string | undefined, limit: number): Promise<string[]> {
    this.#refuseClosed();
    return this.#writer.environment.keys(RECORDS.after(after, limit)).map((key) => RECORDS.idOf(key));
  }

  fault(): string | null {
    return this.#latch.reason();
  }

  close(): Promise<void> {
    this.#closing ??= this.#finish();
    return this.#closing;
  }

  async #finish(): Promise<void> {
    await this.#writer.close();
    // A keyring that is being replaced syncs the directory through a descriptor that must still be this directory's.
    await this.#keyring.idle();
    await this.#top.close();
  }

  #refuseClosed(): void {
    if (this.#closing !== undefined) throw new KmsError('STORE_UNAVAILABLE', 'the store is closed');
  }
}
