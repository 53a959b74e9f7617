import { KmsError } from '../../errors.js';
import { fieldsOf, lp } from '../../store/canonical.js';
import { DamagedDocument, type SealedDocuments } from '../../store/key-store.js';
import type { Handle, Vault } from '../../vault.js';
import type { Keyring } from '../keyring.js';
import { Unsound } from '../rewrapping.js';
import type { ActiveKek } from '../ring.js';
import { checkBinding, type DatabaseName, detailsBinding, keyInfo, shareAad, type WrappedUnder } from './bindings.js';
import {
  canonicalDatabase,
  type DatabaseDocument,
  macParts,
  parseDatabase,
  type WrappedShare,
  withMac,
} from './database-document.js';
import { padded, unpadded } from './padding.js';

const DETAILS_BYTES = 128;
const NOTHING = new Uint8Array(0);

/** What a database's document stands on. */
export interface ShareGround {
  vault: Vault;
  keyring: Keyring;
}

/** A database's document as it was read, for who writes the next one. */
export interface Known {
  bytes: Uint8Array;
  document: DatabaseDocument;
}

/** What the server knows of a database. */
export interface Details {
  createdAt: string;
  createdBy: string;
}

/**
 * The documents of databases themselves: the server's share of each key, wrapped under the KEK. Nothing of one is believed before
 * its MAC matched. A secret is needed for none of this.
 */
export class Shares {
  readonly #ground: ShareGround;
  readonly #sealed: SealedDocuments;

  constructor(ground: ShareGround, sealed: SealedDocuments) {
    this.#ground = ground;
    this.#sealed = sealed;
  }

  get storeId(): string {
    return this.#ground.keyring.storeId;
  }

  /** A document's bytes. */
  encoded(document: DatabaseDocument): Uint8Array {
    const canonical = canonicalDatabase(document);
    return withMac(canonical, this.#ground.vault.mac(this.#ground.keyring.recordMac, canonical));
  }

  /** Throws `Unsound` for what is not the document of this database of this store. */
  verified(databaseId: string, bytes: Uint8Array): Known {
    const { vault, keyring } = this.#ground;
    const { canonical, mac } = macParts(bytes);
    if (!vault.macMatches(keyring.recordMac, canonical, mac)) throw new Unsound('its authentication code does not match');
    let document: DatabaseDocument;
    try {
      document = parseDatabase(canonical);
    } catch (error) {
      throw error instanceof DamagedDocument ? new Unsound(error.message) : error;
    }
    if (document.storeId !== this.storeId) throw new Unsound('it belongs to another store');
    if (document.databaseId !== databaseId) throw new Unsound(`it is that of ${document.databaseId}`);
    return { bytes, document };
  }

  async read(databaseId: string): Promise<Known | undefined> {
    const bytes = await this.#sealed.read(databaseId);
    return bytes && this.verified(databaseId, bytes);
  }

  /** The share under the KEK that is given, by which the caller knows that it is the one that `wrapped` names. */
  unwrapUnder(kek: Handle, name: DatabaseName, { kekId, kekVersion, share }: WrappedShare): Handle {
    return this.#ground.vault.unwrap(kek, share, shareAad({ ...name, kekId, kekVersion }), 'half');
  }

  /** Throws `Unsound` where it does not open. */
  unwrap(document: DatabaseDocument, wrapped: WrappedShare): Handle {
    const { keyring } = this.#ground;
    if (!keyring.holds(wrapped.kekId)) throw new Unsound('it names a KEK that the keyring does not hold');
    return this.#opening(() => this.unwrapUnder(keyring.kek(wrapped.kekId), document, wrapped));
  }

  /** Throws `Unsound` unless share and details open. */
  checkOpens(document: DatabaseDocument): void {
    this.#ground.vault.release(this.unwrap(document, document.shares[0] as WrappedShare));
    this.details(document);
  }

  #opening<T>(open: () => T): T {
    try {
      return open();
    } catch (error) {
      const isOther = error instanceof KmsError && error.code === 'AUTHENTICATION_FAILED';
      throw isOther ? new Unsound('its share does not open') : error;
    }
  }

  /** The record key that both halves make, in `vault`; whoever asks for it releases it. */
  join(vault: Vault, name: DatabaseName, half: Handle, share: Handle): Handle {
    return vault.join(half, share, keyInfo(name));
  }

  /** Whether it is the record key of the document's database. */
  isRecordKey(document: DatabaseDocument, recordKey: Handle): boolean {
    const { info, aad } = checkBinding(document);
    try {
      this.#ground.vault.openDocument(recordKey, info, aad, document.check);
      return true;
    } catch (error) {
      if (error instanceof KmsError && error.code === 'AUTHENTICATION_FAILED') return false;
      throw error;
    }
  }

  checkOf(name: DatabaseName, recordKey: Handle): Uint8Array {
    const { info, aad } = checkBinding(name);
    return this.#ground.vault.sealDocument(recordKey, info, aad, NOTHING);
  }

  wrap(kek: ActiveKek, name: DatabaseName, share: Handle, { createdAt, createdBy }: Details): WrappedShare {
    const { vault } = this.#ground;
    const under: WrappedUnder = { ...name, kekId: kek.kekId, kekVersion: kek.kekVersion };
    const { info, aad } = detailsBinding(under);
    const details = padded(lp([createdAt, createdBy]), DETAILS_BYTES);
    return {
      kekId: kek.kekId,
      kekVersion: kek.kekVersion,
      share: vault.wrap(kek.handle, share, shareAad(under)),
      details: vault.sealDocument(kek.handle, info, aad, details),
    };
  }

  /** Throws `Unsound` where they do not open. */
  details({ storeId, databaseId, shares }: DatabaseDocument): Details {
    const { vault, keyring } = this.#ground;
    const { kekId, kekVersion, details } = shares[0] as WrappedShare;
    const { info, aad } = detailsBinding({ storeId, databaseId, kekId, kekVersion });
    const opened = this.#opening(() => vault.openDocument(keyring.kek(kekId), info, aad, details));
    const [createdAt, createdBy] = fieldsOf(unpadded(opened)).map((field) => Buffer.from(field).toString('latin1'));
    return { createdAt: createdAt ?? '', createdBy: createdBy ?? '' };
  }

  /**
   * Makes a database of a secret's half. Crash story: its document is durable before the secret is told; a crash before that
   * leaves nothing, or a database whose secret nobody has, under a KEK that a rotation moves it away from: the store takes it
   * before the KEK is succeeded, so that whoever moves all finds it, or not at all, and then it is made under the next one.
   */
  async create(databaseId: string, half: Handle, createdBy: string): Promise<void> {
    const { vault, keyring } = this.#ground;
    const name = { storeId: this.storeId, databaseId };
    const share = vault.generate('half');
    try {
      const recordKey = this.join(vault, name, half, share);
      const check = this.checkOf(name, recordKey);
      vault.release(recordKey);
      const details = { createdAt: new Date().toISOString(), createdBy };
      await keyring.withKek(async (kek) => {
        const shares = [this.wrap(kek, name, share, details)];
        await this.#write({ ...name, version: 1, restores: 0, check, shares }, undefined);
      });
    } finally {
      vault.release(share);
    }
  }

  async replace(before: Known, document: DatabaseDocument): Promise<void> {
    await this.#write(document, before.bytes);
  }

  async #write(document: DatabaseDocument, before: Uint8Array | undefined): Promise<void> {
    const [{ kekId }] = document.shares as [WrappedShare];
    await this.#sealed.write(document.databaseId, this.encoded(document), before, kekId);
  }
}
