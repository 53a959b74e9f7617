import { asKmsError, KmsError } from '../../errors.js';
import type { Space } from '../../native.js';
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
  NewSlot,
  Provider,
  RewrapOptions,
  RotationOptions,
  RotationStatus,
  SlotDescription,
  SlotKeeper,
} from '../../provider.js';
import type { Actor } from '../../vault.js';
import { audited } from '../audited.js';
import {
  type ActorOptions,
  actorOf,
  checkAad,
  checkBytes,
  checkKeyId,
  checkThreadId,
  ownCopy,
  type StateOptions,
  userOf,
  within,
} from '../calls.js';
import type { Databases } from './databases.js';
import type { OpenDatabase } from './open-database.js';

/** The store that the database is in, for what is not of one database. */
export type Outside = Pick<Provider, 'rotateKek' | 'rotationStatus' | 'health'> & SlotKeeper & { readonly sealed: boolean };

/** A database as one of its openers has it: the provider's verbs on its keys, until `close`. Made by `EmbeddedKms.openDatabase`. */
export class DatabaseKms implements Provider, SlotKeeper {
  readonly #databases: Databases;
  readonly #database: OpenDatabase;
  readonly #outside: Outside;
  #isLeft = false;

  constructor(databases: Databases, database: OpenDatabase, outside: Outside) {
    this.#databases = databases;
    this.#database = database;
    this.#outside = outside;
  }

  get databaseId(): string {
    return this.#database.databaseId;
  }

  /** The native namespace of its keys, as long as it is open. */
  get space(): Space {
    return this.#database.vault.space;
  }

  /** False once it is closed, here or by a seal, or removed. */
  get isOpen(): boolean {
    return !this.#isLeft && this.#database.isOpen;
  }

  #use(): OpenDatabase {
    if (this.#isLeft) throw new KmsError('SEALED', 'it was closed');
    if (this.#database.isOpen) return this.#database;
    if (this.#outside.sealed) throw new KmsError('SEALED');
    throw new KmsError('UNAUTHENTICATED', 'the database was closed; open it again');
  }

  /** Another one of the same, to be closed by itself: for work that goes on when this one is closed. */
  again(): DatabaseKms {
    this.#databases.stay(this.#use());
    return new DatabaseKms(this.#databases, this.#database, this.#outside);
  }

  // For the daemon's native path, as of `EmbeddedKms`.

  async fetchKey(keyId: string): Promise<void> {
    await this.#use().ground.cache.fetch(checkKeyId(keyId));
  }

  async reserveUses(keyId: string): Promise<void> {
    await this.#use().ground.cache.reserve(checkKeyId(keyId));
  }

  async failedFrame(actor: number, body: Uint8Array, error: unknown): Promise<KmsError> {
    try {
      return await this.#use().events.failedFrame(actor, body, error);
    } catch (untold) {
      return asKmsError(untold);
    }
  }

  // Keys

  async createDekForThread(threadId: string, options?: ActorOptions): Promise<CreatedKey> {
    checkThreadId(threadId);
    const actor = actorOf(options);
    return within(options, async () => this.#use().create(threadId, actor));
  }

  async createDek(label?: string, options?: ActorOptions): Promise<CreatedKey> {
    if (label !== undefined) checkThreadId(label);
    const actor = actorOf(options);
    return within(options, async () => this.#use().create(label ?? '', actor));
  }

  async getWrapped(keyId: string, options?: ActorOptions): Promise<Uint8Array> {
    checkKeyId(keyId);
    const actor = actorOf(options);
    return within(options, async () => {
      const { audit, keys } = this.#use();
      return audited(audit, { type: 'get_wrapped', actor, keyId }, () => keys.wrapped(keyId));
    });
  }

  async describeKey(keyId: string, options?: CallOptions): Promise<KeyDescription> {
    checkKeyId(keyId);
    return within(options, async () => this.#use().keys.describe(keyId));
  }

  async listKeys(query: ListQuery = {}, options?: CallOptions): Promise<KeyPage> {
    return within(options, async () => this.#use().keys.list(query));
  }

  /** Those that the caller created. */
  async ownedKeys(query: ListQuery = {}, options?: ActorOptions): Promise<KeyPage> {
    const actor = actorOf(options);
    return within(options, async () => this.#use().keys.list(query, actor));
  }

  async setKeyState(keyId: string, state: KeyState, options?: StateOptions): Promise<KeyDescription> {
    checkKeyId(keyId);
    const actor = actorOf(options);
    return within(options, async () => {
      const { audit, keys } = this.#use();
      const change = () => keys.setState(keyId, state, options?.onlyCreatedBy);
      return audited(audit, { type: 'key_state', actor, keyId, detail: { state } }, change);
    });
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

  /** A key is always under its database's one KEK, as one outside is that has been moved already: it is answered as it is. */
  async rewrapDek(keyId: string, options?: RewrapOptions & ActorOptions): Promise<CreatedKey> {
    checkKeyId(keyId);
    const actor = actorOf(options);
    if (options?.newKekHex !== undefined) {
      throw new KmsError('UNSUPPORTED', 'a master key is of the whole store: add it outside the database');
    }
    return within(options, async () => {
      const { audit, keys } = this.#use();
      return audited(audit, { type: 'rewrap', actor, keyId }, async () => {
        const [wrapped, { kekId, kekVersion }] = [await keys.wrapped(keyId), await keys.describe(keyId)];
        return { keyId, wrapped, kekId, kekVersion };
      });
    });
  }

  // Messages

  async encryptWithDek(keyId: string, plaintext: Uint8Array, aad?: Uint8Array, options?: ActorOptions): Promise<Encrypted> {
    return within(options, async () => this.#use().messages.encrypt(keyId, plaintext, aad, userOf(options)));
  }

  async decryptWithDek(keyId: string, ciphertext: Uint8Array, aad?: Uint8Array, options?: ActorOptions): Promise<Uint8Array> {
    return within(options, async () => this.#use().messages.decrypt(keyId, ciphertext, aad, userOf(options)));
  }

  async encryptMany(
    keyId: string,
    plaintexts: readonly Uint8Array[],
    aad?: BatchAad,
    options?: ActorOptions,
  ): Promise<ItemResult[]> {
    return within(options, async () => this.#use().messages.encryptMany(keyId, plaintexts, aad, userOf(options)));
  }

  async decryptMany(
    keyId: string,
    ciphertexts: readonly Uint8Array[],
    aad?: BatchAad,
    options?: ActorOptions,
  ): Promise<ItemResult[]> {
    return within(options, async () => this.#use().messages.decryptMany(keyId, ciphertexts, aad, userOf(options)));
  }

  async encrypt(plaintext: Uint8Array, aad?: Uint8Array, options?: ActorOptions): Promise<Uint8Array> {
    return within(options, async () => this.#encryptDefault(plaintext, aad, userOf(options)));
  }

  /** What the caller does with its buffers while the default key is looked for must not change what it asked for. */
  async #encryptDefault(plaintext: Uint8Array, aad: Uint8Array | undefined, user: Actor): Promise<Uint8Array> {
    const unknown = this.#use().knowDefaultKey();
    if (unknown === undefined) return this.#use().defaultKey.encrypt(plaintext, aad, user);
    checkBytes(plaintext, 'plaintext');
    checkAad(aad);
    const held = ownCopy(plaintext);
    const heldAad = aad && ownCopy(aad);
    try {
      await unknown;
      return await this.#use().defaultKey.encrypt(held, heldAad, user);
    } finally {
      held.fill(0);
    }
  }

  async decrypt(sealed: Uint8Array, aad?: Uint8Array, options?: ActorOptions): Promise<Uint8Array> {
    return within(options, async () => this.#use().defaultKey.decrypt(sealed, aad, userOf(options)));
  }

  // What is of the whole store that it is in, as there

  async rotateKek(options?: RotationOptions): Promise<RotationStatus> {
    return within(options, async () => this.#outsideOf().rotateKek(options));
  }

  async rotationStatus(options?: CallOptions): Promise<RotationStatus> {
    return within(options, async () => this.#outsideOf().rotationStatus(options));
  }

  async slots(options?: CallOptions): Promise<SlotDescription[]> {
    return within(options, async () => this.#outsideOf().slots(options));
  }

  async addSlot(slot: NewSlot, options?: CallOptions): Promise<SlotDescription> {
    return within(options, async () => this.#outsideOf().addSlot(slot, options));
  }

  async confirmSlot(options?: CallOptions): Promise<SlotDescription[]> {
    return within(options, async () => this.#outsideOf().confirmSlot(options));
  }

  async removeSlot(slotId: string, options?: CallOptions): Promise<void> {
    return within(options, async () => this.#outsideOf().removeSlot(slotId, options));
  }

  #outsideOf(): Outside {
    this.#use();
    return this.#outside;
  }

  health(options?: CallOptions): Promise<Health> {
    return this.#outside.health(options);
  }

  /** Leaves the database; with its last opener its keys are wiped. */
  async close(): Promise<void> {
    this.leave();
  }

  leave(): void {
    if (this.#isLeft) return;
    this.#isLeft = true;
    this.#databases.leave(this.#database);
  }
}
