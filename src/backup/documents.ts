import { KmsError } from '../errors.js';
import { type Known, Shares } from '../kms/databases/shares.js';
import type { Keyring } from '../kms/keyring.js';
import { Unsound } from '../kms/rewrapping.js';
import { openMemoryStore } from '../store/memory.js';
import type { Vault } from '../vault.js';
import { reasonOf } from './backup-reader.js';
import { type BackedUpDocument, nameOfDatabase, parseDocument } from './format.js';

export interface SoundDocument extends BackedUpDocument {
  /** Of a database itself; undefined for what is in one. */
  known: Known | undefined;
}

/** The documents of a backup in their order. Without secrets as much of them is checked as the server itself can read. */
export class Documents {
  readonly #shares: Shares;
  #before = '';
  #database: string | undefined;

  constructor({ vault, opened }: { vault: Vault; opened: Keyring }) {
    this.#shares = new Shares({ vault, keyring: opened }, openMemoryStore().sealed);
  }

  /** The document, or why it is not to be restored, by the name of its database. */
  take(bytes: Uint8Array): SoundDocument | { keyId: string; reason: string } {
    let found: BackedUpDocument;
    try {
      found = parseDocument(bytes);
    } catch (error) {
      return { keyId: 'a document', reason: reasonOf(error) };
    }
    const { name, document } = found;
    const keyId = nameOfDatabase(name.slice(0, 32));
    if (name <= this.#before) return { keyId, reason: `${name} is out of order, after ${this.#before}` };
    this.#before = name;
    if (name.includes('/')) {
      const isOfOne = this.#database !== undefined && name.startsWith(`${this.#database}/`);
      return isOfOne ? { ...found, known: undefined } : { keyId, reason: `${name} stands without its database` };
    }
    try {
      const known = this.#shares.verified(name, document);
      this.#shares.checkOpens(known.document);
      this.#database = name;
      return { ...found, known };
    } catch (error) {
      if (!(error instanceof KmsError)) throw error;
      this.#database = undefined;
      return { keyId, reason: error instanceof Unsound ? error.reason : reasonOf(error) };
    }
  }
}
