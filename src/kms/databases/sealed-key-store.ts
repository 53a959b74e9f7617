import { ERROR_TABLE, KmsError } from '../../errors.js';
import { MAX_USES, RESTORED_USES } from '../../limits.js';
import { binding } from '../../native.js';
import { canonicalRecord, fieldsOf, lp } from '../../store/canonical.js';
import { recordJson } from '../../store/document-json.js';
import { DamagedDocument, type KeyMeta, type RecordStore, type SealedDocuments } from '../../store/key-store.js';
import { refuseUnlessNext } from '../../store/succession.js';
import type { Vault } from '../../vault.js';
import { documentBinding } from './bindings.js';
import type { DatabaseRing, DefaultKeyPlace } from './database-ring.js';
import { KeyIndex } from './key-index.js';
import { padded, unpadded } from './padding.js';

/** All documents of a database have this length before they are sealed: the longest record with room to spare. */
const DOCUMENT_BYTES = 1_024;
const NAME_DIGITS = 32;
/** Documents opened at once for a listing. */
const PAGE = 256;
const DEFAULT_KEY = 'default-key';
const RECORD = 'record';

export interface SealedGround {
  vault: Vault;
  ring: DatabaseRing;
  sealed: SealedDocuments;
  /** How often the database came out of a backup. */
  restores: number;
  /** Of the store whose documents these are. */
  fault: () => string | null;
}

interface Opened {
  bytes: Uint8Array;
  record: KeyMeta;
}

function notSynchronous(): KmsError {
  return new KmsError('UNSUPPORTED', 'a database has no synchronous calls');
}

function synchronous(): never {
  throw notSynchronous();
}

/**
 * The records of one database as documents that only its record key opens: names, threads and states included. A document's name
 * is a MAC of the key id, its content is bound to that name, and all of them are equally long: to who has no secret a database
 * is a number of documents and when each was written.
 */
export class SealedKeyStore implements RecordStore, DefaultKeyPlace {
  readonly #ground: SealedGround;
  readonly #defaultKey: string;
  #index: KeyIndex | undefined;
  #looking: Promise<void> | undefined;
  /** Records are never removed. */
  readonly backups = { forget: async () => {} };
  readonly readRecordSync = synchronous;
  readonly replaceRecordSync = synchronous;

  constructor(ground: SealedGround) {
    this.#ground = ground;
    this.#defaultKey = this.#nameOf(DEFAULT_KEY, '');
  }

  get #prefix(): string {
    return `${this.#ground.ring.name.databaseId}/`;
  }

  #nameOf(what: string, id: string): string {
    const { vault, ring } = this.#ground;
    return Buffer.from(vault.mac(ring.names, lp([what, id])))
      .toString('hex')
      .slice(0, NAME_DIGITS);
  }

  #seal(name: string, what: string, content: Uint8Array): Uint8Array {
    const { vault, ring, restores } = this.#ground;
    const { info, aad } = documentBinding(ring.name, name);
    return vault.sealDocument(ring.recordKey, info, aad, padded(lp([what, restores, content]), DOCUMENT_BYTES));
  }

  /** Throws DamagedDocument for what was not sealed under this name of this database. */
  #open(name: string, what: string, sealed: Uint8Array): { restores: number; content: Uint8Array } {
    const { vault, ring } = this.#ground;
    const { info, aad } = documentBinding(ring.name, name);
    let document: Uint8Array;
    try {
      document = vault.openDocument(ring.recordKey, info, aad, sealed);
    } catch (error) {
      if (error instanceof KmsError && error.code === 'AUTHENTICATION_FAILED') throw new DamagedDocument('it does not open');
      throw error;
    }
    const [found, restores, content] = fieldsOf(unpadded(document));
    if (found === undefined || Buffer.from(found).toString() !== what || content === undefined) {
      throw new DamagedDocument('it is something else');
    }
    return { restores: Number(Buffer.from(restores ?? []).toString()), content };
  }

  #recordOf(name: string, sealed: Uint8Array): KeyMeta {
    const { restores, content } = this.#open(name, RECORD, sealed);
    try {
      return this.#restored(binding.parseRecord(content), this.#ground.restores - restores);
    } catch (error) {
      if (!(error instanceof KmsError)) throw error;
      throw new DamagedDocument(error.message.replace(`${ERROR_TABLE[error.code].message}: `, ''), { cause: error });
    }
  }

  /**
   * A backup holds the count of uses of its time, and a restore, which has no secret, cannot raise it: who opens the database
   * afterwards takes as many uses as done for each restore since the record was written, as `backup/restore` does outside.
   */
  #restored(record: KeyMeta, times: number): KeyMeta {
    if (times <= 0 || record.state === 'destroyed') return record;
    const { vault, ring } = this.#ground;
    const usesReserved = Math.min(MAX_USES, record.usesReserved + times * RESTORED_USES);
    const { mac: _mac, ...draft } = { ...record, usesReserved };
    // Only of one that is right as it was: a MAC of our own must not hide that somebody else's did not match.
    if (!vault.macMatches(ring.recordMac, canonicalRecord(record), record.mac)) return record;
    return { ...draft, mac: vault.mac(ring.recordMac, canonicalRecord(draft)) };
  }

  async #found(keyId: string): Promise<Opened | undefined> {
    const name = this.#nameOf(RECORD, keyId);
    const bytes = await this.#ground.sealed.read(`${this.#prefix}${name}`);
    return bytes && { bytes, record: this.#recordOf(name, bytes) };
  }

  async #write(record: KeyMeta, before: Uint8Array | undefined): Promise<void> {
    const name = this.#nameOf(RECORD, record.keyId);
    const document = this.#seal(name, RECORD, recordJson(record));
    await this.#ground.sealed.write(`${this.#prefix}${name}`, document, before);
  }

  async readRecord(keyId: string): Promise<KeyMeta | undefined> {
    return (await this.#found(keyId))?.record;
  }

  async createRecord(record: KeyMeta): Promise<void> {
    await this.#write(record, undefined);
    this.#index?.add(this.#nameOf(RECORD, record.keyId), record.keyId);
  }

  async replaceRecord(record: KeyMeta): Promise<void> {
    const current = await this.#found(record.keyId);
    refuseUnlessNext(current?.record, record.version);
    await this.#write(record, current?.bytes);
  }

  /**
   * A listing begins with a look at all documents, of which those that are not known yet are opened: their names say nothing. What is
   * created meanwhile comes with the later pages.
   */
  async listKeyIds(after: string | undefined, limit: number): Promise<string[]> {
    if (after === undefined || this.#index === undefined) {
      this.#looking ??= this.#look().finally(() => {
        this.#looking = undefined;
      });
      await this.#looking;
    }
    return this.#index?.page(after, limit) ?? [];
  }

  async #look(): Promise<void> {
    const index = this.#index ?? new KeyIndex();
    this.#index = index;
    for (let after: string | undefined; ; ) {
      const page = await this.#ground.sealed.list(this.#prefix, after, PAGE);
      await Promise.all(page.map((path) => this.#learn(index, path)));
      if (page.length < PAGE) return;
      after = page.at(-1);
    }
  }

  /** What does not open is nobody's: whose it was cannot be told. */
  async #learn(index: KeyIndex, path: string): Promise<void> {
    const name = path.slice(this.#prefix.length);
    if (index.has(name) || name === this.#defaultKey) return;
    const bytes = await this.#ground.sealed.read(path);
    try {
      if (bytes !== undefined) index.add(name, this.#recordOf(name, bytes).keyId);
    } catch (error) {
      if (!(error instanceof DamagedDocument)) throw error;
    }
  }

  fault(): string | null {
    return this.#ground.fault();
  }

  /** The id of the default key, '' for none. */
  async read(): Promise<string> {
    const bytes = await this.#ground.sealed.read(`${this.#prefix}${this.#defaultKey}`);
    if (bytes === undefined) return '';
    try {
      return Buffer.from(this.#open(this.#defaultKey, DEFAULT_KEY, bytes).content).toString();
    } catch (error) {
      if (!(error instanceof DamagedDocument)) throw error;
      throw new KmsError('STORE_UNAVAILABLE', `what names the default key is damaged: ${error.message}`);
    }
  }

  async write(keyId: string): Promise<void> {
    const path = `${this.#prefix}${this.#defaultKey}`;
    const before = await this.#ground.sealed.read(path);
    await this.#ground.sealed.write(path, this.#seal(this.#defaultKey, DEFAULT_KEY, Buffer.from(keyId)), before);
  }
}
