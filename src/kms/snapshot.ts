import type { AuditLog } from '../audit/audit-log.js';
import { KmsError } from '../errors.js';
import { dekAad } from '../store/canonical.js';
import type { KeyMeta, KeyringDocument, KeyStore } from '../store/key-store.js';
import type { Handle, Vault } from '../vault.js';
import type { WrappedShare } from './databases/database-document.js';
import { Shares } from './databases/shares.js';
import { countKeys, keyPages } from './key-walk.js';
import type { Keyring } from './keyring.js';
import type { Records } from './records.js';
import { Unsound } from './rewrapping.js';

/** Records read at once. */
const READS_AT_ONCE = 32;
const NAMES_AT_ONCE = 256;

/** What a backup reads from: `Opened`, less what it has no use for. */
interface Ground {
  vault: Vault;
  keyring: Keyring;
  records: Records;
}

/** Throws STORE_UNAVAILABLE unless the key of a verified record opens under the KEK that it names. */
export function checkOpens(vault: Vault, keyring: Keyring, record: KeyMeta): void {
  if (record.state !== 'destroyed') vault.release(vault.unwrap(keyring.kek(record.kekId), record.wrapped, dekAad(record), 'dek'));
}

/**
 * A store as a backup reads it while it serves. Records first, the keyring last: it then holds every KEK that a record was
 * read under, since none is retired until `release`. Every key is in it that was made before it began; of what happens
 * meanwhile, each record is as it was before or after.
 */
export class Snapshot {
  readonly audit: AuditLog;
  readonly #ground: Ground;
  readonly #store: KeyStore;
  readonly #release: () => void;
  /** Under which the records and the shares of databases stood that were read. */
  readonly #keks = new Set<string>();
  #macKey: Handle | undefined;

  constructor(ground: Ground, store: KeyStore, audit: AuditLog) {
    this.audit = audit;
    this.#ground = ground;
    this.#store = store;
    this.#release = ground.keyring.holdRetirement();
  }

  get storeId(): string {
    return this.#ground.keyring.storeId;
  }

  /** How many records there are now. */
  count(): Promise<number> {
    return countKeys(this.#store);
  }

  /**
   * Every record in the order of key ids, verified and opened. One that is damaged is given to `leaveOut`, or throws
   * STORE_UNAVAILABLE with its name if there is none: a backup that lacks a key must not look whole.
   */
  async *records(leaveOut?: (keyId: string) => void): AsyncGenerator<KeyMeta> {
    for await (const ids of keyPages(this.#store, READS_AT_ONCE)) {
      for (const record of await Promise.all(ids.map((keyId) => this.#read(keyId, leaveOut)))) {
        if (record !== undefined) yield record;
      }
    }
  }

  async #read(keyId: string, leaveOut: ((keyId: string) => void) | undefined): Promise<KeyMeta | undefined> {
    const { vault, keyring, records } = this.#ground;
    try {
      const record = await records.read(keyId);
      checkOpens(vault, keyring, record);
      if (record.state !== 'destroyed') this.#keks.add(record.kekId);
      return record;
    } catch (error) {
      const code = error instanceof KmsError ? error.code : undefined;
      // A rotation set it aside since it was listed.
      if (code === 'KEY_NOT_FOUND') return undefined;
      const failure = code === 'AUTHENTICATION_FAILED' ? records.reportUnopenable(keyId) : error;
      // A record that could not be read is another matter: it may be sound.
      const isDamaged = records.damaged.some((one) => one.keyId === keyId);
      if (leaveOut === undefined || !isDamaged) throw failure;
      leaveOut(keyId);
      return undefined;
    }
  }

  async hasDatabases(): Promise<boolean> {
    return (await this.#store.sealed.list('', undefined, 1)).length > 0;
  }

  /**
   * Every document of databases in the order of names, each database's own before what is in it: of that one the share has been
   * opened; the others are as they are, since only the database's secret opens them. A damaged database is left out as a record is.
   */
  async *documents(leaveOut?: (databaseId: string) => void): AsyncGenerator<{ name: string; document: Uint8Array }> {
    for await (const databaseId of this.#names('')) {
      const document = await this.#readDatabase(databaseId, leaveOut);
      if (document === undefined) continue;
      yield { name: databaseId, document };
      for await (const name of this.#names(`${databaseId}/`)) {
        const inner = await this.#store.sealed.read(name);
        if (inner !== undefined) yield { name, document: inner };
      }
    }
  }

  async *#names(prefix: string): AsyncGenerator<string> {
    for (let after: string | undefined; ; ) {
      const page = await this.#store.sealed.list(prefix, after, NAMES_AT_ONCE);
      yield* page;
      if (page.length < NAMES_AT_ONCE) return;
      after = page.at(-1);
    }
  }

  async #readDatabase(databaseId: string, leaveOut: ((databaseId: string) => void) | undefined): Promise<Uint8Array | undefined> {
    const shares = new Shares(this.#ground, this.#store.sealed);
    try {
      const known = await shares.read(databaseId);
      if (known === undefined) return undefined;
      shares.checkOpens(known.document);
      this.#keks.add((known.document.shares[0] as WrappedShare).kekId);
      return known.bytes;
    } catch (error) {
      if (!(error instanceof Unsound)) throw error;
      if (leaveOut === undefined)
        throw new KmsError('STORE_UNAVAILABLE', `the document of database ${databaseId} is damaged: ${error.reason}`);
      leaveOut(databaseId);
      return undefined;
    }
  }

  /** The keyring, after the records; from here on `mac` is of the root key behind this document. */
  async keyring(info: string): Promise<KeyringDocument> {
    const { document, macKey } = await this.#ground.keyring.snapshot(info);
    // Held only as far as this process goes: another daemon of the store may have ended a rotation all the same.
    if ([...this.#keks].some((kekId) => !document.keks.some((kek) => kek.kekId === kekId))) {
      this.#ground.vault.release(macKey);
      throw new KmsError('CONFLICT', 'another daemon has ended a rotation meanwhile; make the backup again');
    }
    this.#macKey = macKey;
    return document;
  }

  mac(data: Uint8Array): Uint8Array {
    if (this.#macKey === undefined) throw new KmsError('INTERNAL', 'the keyring comes first');
    return this.#ground.vault.mac(this.#macKey, data);
  }

  release(): void {
    this.#release();
    if (this.#macKey !== undefined) this.#ground.vault.release(this.#macKey);
  }
}
