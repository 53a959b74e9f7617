import { KmsError } from '../../errors.js';
import type { Handle, Vault } from '../../vault.js';
import type { ActiveKek, Ring } from '../ring.js';
import { type DatabaseName, KEK_INFO, NAMES_INFO, RECORD_MAC_INFO } from './bindings.js';

/** What a database remembers of its default key. */
export interface DefaultKeyPlace {
  read(): Promise<string>;
  write(keyId: string): Promise<void>;
}

/** A database has one KEK, of its own, as long as it lives: a rotation of the store's wraps the server's share of it anew. */
const ONLY_VERSION = 1;
const NO_SALT = new Uint8Array(0);

/** The keys of one open database, all of them derived from its record key and gone with its vault. */
export class DatabaseRing implements Ring {
  readonly name: DatabaseName;
  readonly recordKey: Handle;
  readonly recordMac: Handle;
  /** Keys the names of its documents. */
  readonly names: Handle;
  readonly #kek: ActiveKek;
  #defaultKeyId = '';
  #place: DefaultKeyPlace | undefined;
  #isLoaded = false;
  #loading: Promise<void> | undefined;

  constructor(vault: Vault, name: DatabaseName, recordKey: Handle) {
    this.name = name;
    this.recordKey = recordKey;
    this.recordMac = vault.derive(recordKey, NO_SALT, RECORD_MAC_INFO, 'mac');
    this.names = vault.derive(recordKey, NO_SALT, NAMES_INFO, 'mac');
    const handle = vault.derive(recordKey, NO_SALT, KEK_INFO, 'kek');
    this.#kek = { kekId: `kek_${name.databaseId}`, kekVersion: ONLY_VERSION, handle };
  }

  get storeId(): string {
    return this.name.storeId;
  }

  kek(kekId: string): Handle {
    if (kekId !== this.#kek.kekId) throw new KmsError('STORE_UNAVAILABLE', 'the record names a KEK that is not of its database');
    return this.#kek.handle;
  }

  holds(kekId: string): boolean {
    return kekId === this.#kek.kekId;
  }

  withKek<T>(work: (kek: ActiveKek) => Promise<T>): Promise<T> {
    return work(this.#kek);
  }

  holdRetirement(): () => void {
    return () => {};
  }

  /** Of `load`, before which nobody asks. */
  get defaultKeyId(): string {
    return this.#defaultKeyId;
  }

  get isLoaded(): boolean {
    return this.#isLoaded;
  }

  /** Resolves when it is known which key is the default one: most openings never ask. */
  load(place: DefaultKeyPlace): Promise<void> {
    this.#place = place;
    this.#loading ??= place
      .read()
      .then((keyId) => {
        this.#defaultKeyId = keyId;
        this.#isLoaded = true;
      })
      .catch((error) => {
        this.#loading = undefined;
        throw error;
      });
    return this.#loading;
  }

  async refresh(): Promise<boolean> {
    const before = this.#defaultKeyId;
    if (this.#place !== undefined) this.#defaultKeyId = await this.#place.read();
    return this.#defaultKeyId !== before;
  }

  async setDefaultKey(keyId: string): Promise<void> {
    await this.#place?.write(keyId);
    this.#defaultKeyId = keyId;
  }
}
