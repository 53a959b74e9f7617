import type { OpenAuditLog } from '../audit/audit-log.js';
import { KmsError } from '../errors.js';
import { DATABASE_ID_PATTERN, SLOT_ID_PATTERN } from '../limits.js';
import type { Space } from '../native.js';
import type {
  CallOptions,
  CreatedKey,
  DatabaseDescription,
  Health,
  NewSlot,
  Provider,
  RewrapOptions,
  RotationOptions,
  RotationStatus,
  SlotDescription,
  SlotKeeper,
} from '../provider.js';
import type { KeyringKek } from '../store/key-store.js';
import { arenaInfo, auditBellRang, type MasterSource } from '../vault.js';
import { audited } from './audited.js';
import { type ActorOptions, actorOf, checkBytes, checkKeyId, userOf, within } from './calls.js';
import type { DatabaseCounts } from './databases/database-counts.js';
import { DatabaseKms } from './databases/database-kms.js';
import { Importing } from './importing.js';
import { Key } from './key.js';
import { answerDoorbell } from './key-cache.js';
import { KeyVerbs } from './key-verbs.js';
import type { Glance, Keys } from './keys.js';
import { type EmbeddedSettings, Lifecycle } from './lifecycle.js';
import { newMasterOf } from './new-master.js';
import { addedSlotOf, rotationOrderOf } from './orders.js';
import type { Session } from './session.js';
import { Snapshot } from './snapshot.js';

/** Of `addSlot`. */
export interface SlotOptions extends ActorOptions {
  /** Gone after seven days unless a start has used it; true unless told, but for recovery keys, which none is to use. */
  expires?: boolean;
}

/** The provider in this process: keys in its own locked memory, records in its own store. Made by `createEmbeddedKms`. */
export class EmbeddedKms extends KeyVerbs<Session> implements Provider, SlotKeeper {
  readonly #settings: EmbeddedSettings;
  readonly #lifecycle: Lifecycle;

  private constructor(settings: EmbeddedSettings, lifecycle: Lifecycle) {
    super();
    this.#settings = settings;
    this.#lifecycle = lifecycle;
  }

  static async open(settings: EmbeddedSettings): Promise<EmbeddedKms> {
    return new EmbeddedKms(settings, await Lifecycle.open(settings));
  }

  protected use(): Session {
    return this.#lifecycle.use();
  }

  get #session(): Session | null {
    return this.#lifecycle.session;
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

  /** The log of the open store; undefined while it is sealed. */
  get audit(): OpenAuditLog | undefined {
    return this.#session?.audit;
  }

  /** Resolves when the log has what data operations have done on the disk. */
  async dataWritten(): Promise<void> {
    await this.#lifecycle.dataWritten();
  }

  /** Whether data operations are refused because the log cannot be written. */
  get refusesData(): boolean {
    return this.#session?.audit.refusesData === true;
  }

  get cachedKeys(): number {
    return this.#session?.opened.vault.cachedKeys ?? 0;
  }

  /** What is known of the KEK that wraps; null while sealed. */
  get activeKek(): Pick<KeyringKek, 'createdAt' | 'wrapsReserved'> | null {
    return this.#session?.opened.keyring.active ?? null;
  }

  // For the daemon's native path, which meets missing keys and missing uses itself.

  /** Whether `loadKeys` can bring any. */
  get hasRecordsAtHand(): boolean {
    return this.#session?.opened.cache.hasRecordsAtHand === true;
  }

  /** As `fetchKey`, for many at once and in this step, as far as it can be: what cannot is for that. '' is passed over. */
  loadKeys(keyIds: readonly string[]): void {
    const { cache } = this.use().opened;
    for (const keyId of keyIds) if (keyId !== '') cache.load(keyId);
  }

  answerDoorbell(): void {
    answerDoorbell();
    // What cannot be written is told to the operations that come after.
    if (auditBellRang()) this.dataWritten().catch(() => undefined);
  }

  // Keys

  /** Some of the keys after `cursor`, for who counts them all; null where that is the end. */
  async glance(cursor: string | undefined): Promise<Glance> {
    return this.use().keys.glance(cursor);
  }

  /** Opens every record as a use would; yields what is wrong with each, null for nothing. */
  verifyRecords(): AsyncGenerator<{ keyId: string; fault: string | null }> {
    return this.use().keys.verify();
  }

  /** What a backup reads from; whoever takes it releases it. */
  snapshot(): Snapshot {
    const { opened, audit } = this.use();
    return new Snapshot(opened, this.#settings.store, audit);
  }

  /** Takes keys of the original over, whose master key `source` is; whoever opens it closes it. */
  importing(source: MasterSource): Importing {
    const { opened, audit } = this.use();
    return new Importing(opened, source, audit);
  }

  /** Moves one key to the active KEK. */
  async rewrapDek(keyId: string, options?: RewrapOptions & ActorOptions): Promise<CreatedKey> {
    checkKeyId(keyId);
    const actor = actorOf(options);
    const master = newMasterOf({ hex: 'newKekHex', file: 'newMasterKeyFile' }, options?.newKekHex, undefined);
    return within(options, async () => this.use().administration.rewrap(keyId, master, actor));
  }

  async rotateKek(options?: RotationOptions & ActorOptions): Promise<RotationStatus> {
    const { order, master, wait, dryRun } = rotationOrderOf(options ?? {}, actorOf(options));
    return within(options, async () => {
      const { administration } = this.use();
      return dryRun ? administration.rotation.rehearse() : administration.rotate(order, master, wait);
    });
  }

  async rotationStatus(options?: CallOptions): Promise<RotationStatus> {
    return within(options, async () => this.use().administration.rotation.statusNow());
  }

  async slots(options?: CallOptions): Promise<SlotDescription[]> {
    return within(options, async () => this.use().administration.slots);
  }

  async addSlot(slot: NewSlot & { masterKeyFd?: number }, options?: SlotOptions): Promise<SlotDescription> {
    const { master, kind } = addedSlotOf(slot);
    const actor = actorOf(options);
    const expires = options?.expires ?? kind === 'master';
    return within(options, async () => this.use().administration.addSlot(master, kind, expires, actor));
  }

  async confirmSlot(options?: ActorOptions): Promise<SlotDescription[]> {
    const actor = actorOf(options);
    return within(options, async () => {
      const { administration, audit } = this.use();
      audit.refuseIfFailed();
      await administration.confirmSlots(actor);
      return administration.slots;
    });
  }

  async removeSlot(slotId: string, options?: ActorOptions): Promise<void> {
    if (!SLOT_ID_PATTERN.test(slotId)) throw new KmsError('INVALID_ARGUMENT', 'slot id');
    const actor = actorOf(options);
    return within(options, async () => this.use().administration.removeSlot(slotId, actor));
  }

  // Databases

  /** How many somebody has open. */
  get openDatabases(): number {
    return this.#session?.databases.openCount ?? 0;
  }

  /** From the beginning: a seal leaves them as they are. */
  get databaseCounts(): DatabaseCounts {
    return this.#lifecycle.databaseCounts;
  }

  /** Makes a client-sealed database and resolves to its secret, which is kept nowhere: the caller hands it on and wipes it. */
  async newDatabase(options?: ActorOptions): Promise<Uint8Array> {
    const actor = actorOf(options);
    const make = async () => this.use().databases.create(actor);
    return within(options, make, (secret) => secret.fill(0));
  }

  /**
   * The database of a secret, which is wiped, to be closed by the caller; a seal closes it, too.
   * INVALID_ARGUMENT for what cannot be a secret, UNAUTHENTICATED for one that opens nothing.
   */
  async openDatabase(secret: Uint8Array, options?: ActorOptions): Promise<DatabaseKms> {
    checkBytes(secret, 'database secret');
    const actor = actorOf(options);
    const { databases } = this.use();
    const open = async () => new DatabaseKms(databases, await databases.open(secret, actor), this);
    return within(options, open, (database) => database.leave());
  }

  /** What is known of the databases without their secrets. */
  databases(): AsyncGenerator<DatabaseDescription> {
    return this.use().databases.list();
  }

  /** Removes a database with all of its keys. NOT_FOUND if there is none of this name. */
  async dropDatabase(databaseId: string, options?: ActorOptions): Promise<void> {
    if (!DATABASE_ID_PATTERN.test(databaseId)) throw new KmsError('INVALID_ARGUMENT', 'database id');
    const actor = actorOf(options);
    return within(options, async () => this.use().databases.drop(databaseId, actor));
  }

  // Messages

  async encrypt(plaintext: Uint8Array, aad?: Uint8Array, options?: ActorOptions): Promise<Uint8Array> {
    return within(options, async () => this.use().defaultKey.encrypt(plaintext, aad, userOf(options)));
  }

  async decrypt(sealed: Uint8Array, aad?: Uint8Array, options?: ActorOptions): Promise<Uint8Array> {
    return within(options, async () => this.use().defaultKey.decrypt(sealed, aad, userOf(options)));
  }

  /**
   * The synchronous forms. On a key that is not in the vault, or has run out of reserved uses, they read or write its
   * record blocking; otherwise they touch no disk.
   */
  encryptSync(keyId: string, plaintext: Uint8Array, aad?: Uint8Array): Uint8Array {
    return this.use().messages.encryptSync(keyId, plaintext, aad);
  }

  decryptSync(keyId: string, ciphertext: Uint8Array, aad?: Uint8Array): Uint8Array {
    return this.use().messages.decryptSync(keyId, ciphertext, aad);
  }

  /** Into the caller's buffer; returns the bytes written, plaintext.length + 28. `out` must not overlap what is read. */
  encryptInto(keyId: string, plaintext: Uint8Array, aad: Uint8Array | undefined, out: Uint8Array, offset = 0): number {
    return this.use().messages.encryptInto(keyId, plaintext, aad, out, offset);
  }

  decryptInto(keyId: string, ciphertext: Uint8Array, aad: Uint8Array | undefined, out: Uint8Array, offset = 0): number {
    return this.use().messages.decryptInto(keyId, ciphertext, aad, out, offset);
  }

  /** The key as an object with the same verbs: the fastest way to use one key often. */
  async key(keyId: string): Promise<Key> {
    const { cache } = this.use().opened;
    const { handle } = cache.known(keyId) ?? (await cache.fetch(keyId));
    const serving = () => {
      const { messages, opened } = this.use();
      return { messages, cache: opened.cache };
    };
    return new Key(keyId, serving, handle);
  }

  // Raw keys

  #allowRaw(): Keys {
    if (!this.#settings.exposeRawKeys) throw new KmsError('UNSUPPORTED', 'raw keys need exposeRawKeys');
    return this.use().keys;
  }

  /** Imports a raw data key (32 bytes, wiped); only with `exposeRawKeys`. */
  async wrapDek(raw: Uint8Array, options?: ActorOptions): Promise<CreatedKey> {
    checkBytes(raw, 'raw key');
    this.#allowRaw();
    const actor = actorOf(options);
    const session = this.use();
    const dek = session.opened.vault.importDek(raw);
    return within(options, () => session.create('', actor, dek));
  }

  /** The raw data key behind a wrapped blob of this store; only with `exposeRawKeys`. The caller wipes it. */
  async unwrapDek(wrapped: Uint8Array, options?: ActorOptions): Promise<Uint8Array> {
    checkBytes(wrapped, 'wrapped key');
    const keys = this.#allowRaw();
    const actor = actorOf(options);
    const { audit } = this.use();
    const event = { type: 'get_wrapped', actor, detail: { raw: true } } as const;
    const { raw } = await within(options, () =>
      audited(
        audit,
        event,
        () => keys.unwrapRaw(wrapped),
        ({ keyId }) => ({ keyId }),
      ),
    );
    return raw;
  }

  // The whole

  async health(options?: CallOptions): Promise<Health> {
    return within(options, async () => this.#health());
  }

  #health(): Health {
    const storeFault = this.#settings.store.fault();
    const damagedRecords = this.#session?.opened.records.damaged ?? [];
    const auditFault = this.#session?.audit.state().fault ?? null;
    const degraded = storeFault !== null || auditFault !== null || damagedRecords.length > 0;
    return {
      status: this.sealed ? 'sealed' : degraded ? 'degraded' : 'ok',
      protection: arenaInfo().protection,
      storeFault,
      auditFault,
      damagedRecords,
      keysNearLimit: this.#session?.opened.cache.nearLimit ?? [],
    };
  }

  /** The panic button: wipes every key of this store; everything but `health` and `unseal` throws SEALED. */
  async seal(options?: ActorOptions): Promise<void> {
    return this.#lifecycle.seal(actorOf(options));
  }

  /** Reads the master key from its source again. UNSUPPORTED where the source was read once and is gone. */
  async unseal(options?: ActorOptions): Promise<void> {
    return this.#lifecycle.unseal(actorOf(options));
  }

  close(): Promise<void> {
    return this.#lifecycle.close();
  }
}
