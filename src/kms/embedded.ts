import { KmsError } from '../errors.js';
import { RETURN_USES_MS } from '../limits.js';
import type { Space } from '../native.js';
import type {
  BatchAad,
  CallOptions,
  CreatedKey,
  Encrypted,
  Health,
  ItemResult,
  KeyDescription,
  KeyPage,
  KeyState,
  ListQuery,
  Provider,
  RewrapOptions,
  RotationOptions,
  RotationStatus,
} from '../provider.js';
import type { KeyStore } from '../store/key-store.js';
import { arenaInfo, type MasterSource } from '../vault.js';
import { checkActor, checkBytes, checkKeyId, checkThreadId, within } from './calls.js';
import { DefaultKey } from './default-key.js';
import { Key } from './key.js';
import { answerDoorbell } from './key-cache.js';
import { Keys } from './keys.js';
import { Messages } from './messages.js';
import { type Opened, type OpenSettings, openStore } from './opened.js';
import { type IdleTimes, keepSwept } from './sweeper.js';

/** Options of calls that make or change keys on behalf of somebody: who it is ends up in the record. */
export interface ActorOptions extends CallOptions {
  /** `uid:1000`; the process's own uid unless told. */
  actor?: string;
}

export interface StateOptions extends ActorOptions {
  /** PERMISSION_DENIED unless this is who created the key. */
  onlyCreatedBy?: string;
}

export interface EmbeddedSettings extends OpenSettings, IdleTimes {
  store: KeyStore;
  master: MasterSource;
  /** Null for a store in memory. */
  dataDir: string | null;
  exposeRawKeys: boolean;
  /** Uses after which the default key is succeeded. */
  defaultKeySoftUses: number;
  /** Gives back what the composer took for this provider: the store, the lock of the data directory. */
  release: () => Promise<void>;
}

/** Everything that stands on an open store; replaced as a whole at an unseal. */
class Session {
  readonly opened: Opened;
  readonly messages: Messages;
  readonly keys: Keys;
  readonly defaultKey: DefaultKey;

  constructor(opened: Opened, settings: EmbeddedSettings) {
    this.opened = opened;
    this.messages = new Messages(opened.cache);
    this.keys = new Keys(opened, settings.store);
    const create = async () => (await this.keys.create('', ownActor())).keyId;
    this.defaultKey = new DefaultKey(opened.keyring, this.messages, create, settings.defaultKeySoftUses);
  }

  /** Wipes every key of it. Resolves when the writes that had begun are through. */
  wipe(): Promise<unknown> {
    const { vault, records, keyring, cache } = this.opened;
    cache.close();
    vault.close();
    return Promise.all([records.settled(), keyring.settled()]);
  }
}

function actorOf(options: ActorOptions | undefined): string {
  return checkActor(options?.actor ?? ownActor());
}

function ownActor(): string {
  return `uid:${process.getuid?.() ?? 0}`;
}

/** The provider in this process: keys in its own locked memory, records in its own store. Made by `createEmbeddedKms`. */
export class EmbeddedKms implements Provider {
  readonly #settings: EmbeddedSettings;
  readonly #stopSweeping: () => void;
  #session: Session | null = null;
  #closing: Promise<void> | undefined;
  /** One opening at a time: of two, one would be lost with its keys unwiped. */
  #opening: Promise<void> | undefined;
  /** Raised by seal and close: an opening that began before must not put its session in place afterwards. */
  #epoch = 0;
  /** Writes that were under way at the last seal. The next session must not read what they are about to change. */
  #leftover: Promise<unknown> = Promise.resolve();

  private constructor(settings: EmbeddedSettings) {
    this.#settings = settings;
    this.#stopSweeping = keepSwept(settings);
  }

  static async open(settings: EmbeddedSettings): Promise<EmbeddedKms> {
    const kms = new EmbeddedKms(settings);
    try {
      await kms.#open(settings.initialise);
      return kms;
    } catch (error) {
      kms.#stopSweeping();
      throw error;
    }
  }

  async #open(initialise: boolean): Promise<void> {
    const epoch = this.#epoch;
    await this.#leftover;
    const onReserved = (keyId: string, uses: number) => this.#session?.defaultKey.reserved(keyId, uses);
    const opened = await openStore(this.#settings.store, this.#settings.master, { ...this.#settings, initialise }, onReserved);
    const session = new Session(opened, this.#settings);
    if (epoch !== this.#epoch) {
      this.#leftover = session.wipe();
      throw new KmsError('SEALED', 'it was sealed again');
    }
    this.#session = session;
  }

  #use(): Session {
    if (this.#session === null) throw new KmsError('SEALED', this.#closing === undefined ? undefined : 'it was closed');
    return this.#session;
  }

  get dataDir(): string | null {
    return this.#settings.dataDir;
  }

  get sealed(): boolean {
    return this.#session === null;
  }

  /** The native namespace of the keys; another one after an unseal, 0 while sealed. */
  get space(): Space {
    return this.#session?.opened.vault.space ?? 0;
  }

  get cachedKeys(): number {
    return this.#session?.opened.vault.cachedKeys ?? 0;
  }

  // For the daemon's native path, which meets missing keys and missing uses itself.

  /** After the vault said that it has not got the key: brings the key, or its state, in. */
  async fetchKey(keyId: string): Promise<void> {
    await this.#use().opened.cache.fetch(checkKeyId(keyId));
  }

  /** After the vault said that the key's reserved uses are gone. */
  async reserveUses(keyId: string): Promise<void> {
    await this.#use().opened.cache.reserve(checkKeyId(keyId));
  }

  answerDoorbell(): void {
    answerDoorbell();
  }

  // Keys

  async createDekForThread(threadId: string, options?: ActorOptions): Promise<CreatedKey> {
    checkThreadId(threadId);
    const actor = actorOf(options);
    return within(options, async () => this.#use().keys.create(threadId, actor));
  }

  async createDek(label?: string, options?: ActorOptions): Promise<CreatedKey> {
    if (label !== undefined) checkThreadId(label);
    const actor = actorOf(options);
    return within(options, async () => this.#use().keys.create(label ?? '', actor));
  }

  async getWrapped(keyId: string, options?: CallOptions): Promise<Uint8Array> {
    checkKeyId(keyId);
    return within(options, async () => this.#use().keys.wrapped(keyId));
  }

  async describeKey(keyId: string, options?: CallOptions): Promise<KeyDescription> {
    checkKeyId(keyId);
    return within(options, async () => this.#use().keys.describe(keyId));
  }

  async listKeys(query: ListQuery = {}, options?: CallOptions): Promise<KeyPage> {
    return within(options, async () => this.#use().keys.list(query));
  }

  async setKeyState(keyId: string, state: KeyState, options?: StateOptions): Promise<KeyDescription> {
    checkKeyId(keyId);
    return within(options, async () => this.#use().keys.setState(keyId, state, options?.onlyCreatedBy));
  }

  disableKey(keyId: string, options?: CallOptions): Promise<KeyDescription> {
    return this.setKeyState(keyId, 'disabled', options);
  }

  enableKey(keyId: string, options?: CallOptions): Promise<KeyDescription> {
    return this.setKeyState(keyId, 'active', options);
  }

  destroyKey(keyId: string, options?: CallOptions): Promise<KeyDescription> {
    return this.setKeyState(keyId, 'destroyed', options);
  }

  /** Opens every record as a use would; yields what is wrong with each, null for nothing. */
  verifyRecords(): AsyncGenerator<{ keyId: string; fault: string | null }> {
    return this.#use().keys.verify();
  }

  async rewrapDek(_keyId: string, _options?: RewrapOptions): Promise<CreatedKey> {
    throw new KmsError('UNSUPPORTED', 'rewrap comes with key rotation');
  }

  async rotateKek(_options?: RotationOptions): Promise<RotationStatus> {
    throw new KmsError('UNSUPPORTED', 'this version has no key rotation');
  }

  async rotationStatus(_options?: CallOptions): Promise<RotationStatus> {
    throw new KmsError('UNSUPPORTED', 'this version has no key rotation');
  }

  // Messages

  async encryptWithDek(keyId: string, plaintext: Uint8Array, aad?: Uint8Array, options?: CallOptions): Promise<Encrypted> {
    return within(options, async () => this.#use().messages.encrypt(keyId, plaintext, aad));
  }

  async decryptWithDek(keyId: string, ciphertext: Uint8Array, aad?: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    return within(options, async () => this.#use().messages.decrypt(keyId, ciphertext, aad));
  }

  async encryptMany(
    keyId: string,
    plaintexts: readonly Uint8Array[],
    aad?: BatchAad,
    options?: CallOptions,
  ): Promise<ItemResult[]> {
    return within(options, async () => this.#use().messages.encryptMany(keyId, plaintexts, aad));
  }

  async decryptMany(
    keyId: string,
    ciphertexts: readonly Uint8Array[],
    aad?: BatchAad,
    options?: CallOptions,
  ): Promise<ItemResult[]> {
    return within(options, async () => this.#use().messages.decryptMany(keyId, ciphertexts, aad));
  }

  async encrypt(plaintext: Uint8Array, aad?: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    return within(options, async () => this.#use().defaultKey.encrypt(plaintext, aad));
  }

  async decrypt(sealed: Uint8Array, aad?: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    return within(options, async () => this.#use().defaultKey.decrypt(sealed, aad));
  }

  /**
   * The synchronous forms. On a key that is not in the vault, or has run out of reserved uses, they read or write its
   * record blocking; otherwise they touch no disk.
   */
  encryptSync(keyId: string, plaintext: Uint8Array, aad?: Uint8Array): Uint8Array {
    return this.#use().messages.encryptSync(keyId, plaintext, aad);
  }

  decryptSync(keyId: string, ciphertext: Uint8Array, aad?: Uint8Array): Uint8Array {
    return this.#use().messages.decryptSync(keyId, ciphertext, aad);
  }

  /** Into the caller's buffer; returns the bytes written, plaintext.length + 28. `out` must not overlap what is read. */
  encryptInto(keyId: string, plaintext: Uint8Array, aad: Uint8Array | undefined, out: Uint8Array, offset = 0): number {
    return this.#use().messages.encryptInto(keyId, plaintext, aad, out, offset);
  }

  decryptInto(keyId: string, ciphertext: Uint8Array, aad: Uint8Array | undefined, out: Uint8Array, offset = 0): number {
    return this.#use().messages.decryptInto(keyId, ciphertext, aad, out, offset);
  }

  /** The key as an object with the same verbs: the fastest way to use one key often. */
  async key(keyId: string): Promise<Key> {
    const { cache } = this.#use().opened;
    const { handle } = cache.known(keyId) ?? (await cache.fetch(keyId));
    const serving = () => {
      const { messages, opened } = this.#use();
      return { messages, cache: opened.cache };
    };
    return new Key(keyId, serving, handle);
  }

  // Raw keys

  #allowRaw(): Keys {
    if (!this.#settings.exposeRawKeys) throw new KmsError('UNSUPPORTED', 'raw keys need exposeRawKeys');
    return this.#use().keys;
  }

  /** Imports a raw data key (32 bytes, wiped); only with `exposeRawKeys`. */
  async wrapDek(raw: Uint8Array, options?: ActorOptions): Promise<CreatedKey> {
    checkBytes(raw, 'raw key');
    const keys = this.#allowRaw();
    const actor = actorOf(options);
    const dek = this.#use().opened.vault.importDek(raw);
    return within(options, () => keys.create('', actor, dek));
  }

  /** The raw data key behind a wrapped blob of this store; only with `exposeRawKeys`. The caller wipes it. */
  async unwrapDek(wrapped: Uint8Array, options?: CallOptions): Promise<Uint8Array> {
    checkBytes(wrapped, 'wrapped key');
    const keys = this.#allowRaw();
    return within(options, () => keys.unwrapRaw(wrapped));
  }

  // The whole

  async health(options?: CallOptions): Promise<Health> {
    return within(options, async () => this.#health());
  }

  #health(): Health {
    const storeFault = this.#settings.store.fault();
    const damagedRecords = this.#session?.opened.records.damaged ?? [];
    const degraded = storeFault !== null || damagedRecords.length > 0;
    return {
      status: this.sealed ? 'sealed' : degraded ? 'degraded' : 'ok',
      protection: arenaInfo().protection,
      storeFault,
      damagedRecords,
      keysNearLimit: this.#session?.opened.cache.nearLimit ?? [],
    };
  }

  /** The panic button: wipes every key of this store; everything but `health` and `unseal` throws SEALED. */
  async seal(): Promise<void> {
    this.#epoch += 1;
    const session = this.#session;
    this.#session = null;
    if (session !== null) this.#leftover = Promise.all([this.#leftover, session.wipe()]);
  }

  /** Reads the master key from its source again. UNSUPPORTED where the source was read once and is gone. */
  async unseal(): Promise<void> {
    if (this.#closing !== undefined) throw new KmsError('SEALED', 'it was closed');
    if (this.#session !== null) return;
    if (this.#opening !== undefined) return this.#opening;
    if (this.#settings.master.kind !== 'file') {
      throw new KmsError('UNSUPPORTED', 'the master key was not read from a file; start again with one');
    }
    this.#opening = this.#open(false).finally(() => {
      this.#opening = undefined;
    });
    return this.#opening;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#epoch += 1;
    const session = this.#session;
    this.#session = null;
    try {
      await session?.opened.cache.returnUnused(RETURN_USES_MS);
    } finally {
      const written = session?.wipe();
      this.#stopSweeping();
      await Promise.allSettled([written, this.#opening, this.#leftover]);
      await this.#settings.release();
    }
  }
}
