import { KmsError } from '../../errors.js';
import type { Space } from '../../native.js';
import type {
  CallOptions,
  CreatedKey,
  Health,
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
import { type ActorOptions, actorOf, checkAad, checkBytes, checkKeyId, ownCopy, userOf, within } from '../calls.js';
import { KeyVerbs } from '../key-verbs.js';
import type { Databases } from './databases.js';
import type { OpenDatabase } from './open-database.js';

/** The store that the database is in, for what is not of one database. */
export type Outside = Pick<Provider, 'rotateKek' | 'rotationStatus' | 'health'> & SlotKeeper & { readonly sealed: boolean };

/** A database as one of its openers has it: the provider's verbs on its keys, until `close`. Made by `EmbeddedKms.openDatabase`. */
export class DatabaseKms extends KeyVerbs<OpenDatabase> implements Provider, SlotKeeper {
  readonly #databases: Databases;
  readonly #database: OpenDatabase;
  readonly #outside: Outside;
  #isLeft = false;

  constructor(databases: Databases, database: OpenDatabase, outside: Outside) {
    super();
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

  protected use(): OpenDatabase {
    if (this.#isLeft) throw new KmsError('SEALED', 'it was closed');
    if (this.#database.isOpen) return this.#database;
    if (this.#outside.sealed) throw new KmsError('SEALED');
    throw new KmsError('UNAUTHENTICATED', 'the database was closed; open it again');
  }

  /** Another one of the same, to be closed by itself: for work that goes on when this one is closed. */
  again(): DatabaseKms {
    this.#databases.stay(this.use());
    return new DatabaseKms(this.#databases, this.#database, this.#outside);
  }

  /** A key is always under its database's one KEK, as one outside is that has been moved already: it is answered as it is. */
  async rewrapDek(keyId: string, options?: RewrapOptions & ActorOptions): Promise<CreatedKey> {
    checkKeyId(keyId);
    const actor = actorOf(options);
    if (options?.newKekHex !== undefined) {
      throw new KmsError('UNSUPPORTED', 'a master key is of the whole store: add it outside the database');
    }
    return within(options, async () => {
      const { audit, keys } = this.use();
      return audited(audit, { type: 'rewrap', actor, keyId }, async () => {
        const [wrapped, { kekId, kekVersion }] = [await keys.wrapped(keyId), await keys.describe(keyId)];
        return { keyId, wrapped, kekId, kekVersion };
      });
    });
  }

  // Messages

  async encrypt(plaintext: Uint8Array, aad?: Uint8Array, options?: ActorOptions): Promise<Uint8Array> {
    return within(options, async () => this.#encryptDefault(plaintext, aad, userOf(options)));
  }

  /** What the caller does with its buffers while the default key is looked for must not change what it asked for. */
  async #encryptDefault(plaintext: Uint8Array, aad: Uint8Array | undefined, user: Actor): Promise<Uint8Array> {
    const unknown = this.use().knowDefaultKey();
    if (unknown === undefined) return this.use().defaultKey.encrypt(plaintext, aad, user);
    checkBytes(plaintext, 'plaintext');
    checkAad(aad);
    const held = ownCopy(plaintext);
    const heldAad = aad && ownCopy(aad);
    try {
      await unknown;
      return await this.use().defaultKey.encrypt(held, heldAad, user);
    } finally {
      held.fill(0);
    }
  }

  async decrypt(sealed: Uint8Array, aad?: Uint8Array, options?: ActorOptions): Promise<Uint8Array> {
    return within(options, async () => this.use().defaultKey.decrypt(sealed, aad, userOf(options)));
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
    this.use();
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
