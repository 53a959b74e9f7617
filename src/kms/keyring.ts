import { KmsError } from '../errors.js';
import { MAX_KEK_VERSION, MAX_USES } from '../limits.js';
import type { SlotDescription } from '../provider.js';
import { auditKeyAad, recordMacAad } from '../store/canonical.js';
import {
  type AuditKey,
  type KeyringDocument,
  type KeyringKek,
  type KeyringSlot,
  type KeyStore,
  Superseded,
} from '../store/key-store.js';
import type { Handle, Vault } from '../vault.js';
import { follow } from './following.js';
import { Holds } from './holds.js';
import { activeOf, newKek, readKeyring } from './keyring-document.js';
import { createKeyring, type OpenKeyring, openKeyring } from './keyring-opening.js';
import type { ActiveKek, Ring } from './ring.js';
import { type Draft, type RootKeys, releaseRoot, rerooted, rerootedAuditKey, rootKeys, sealDocument } from './root-keys.js';
import { added, type Confirmed, confirmed, described, makeSlot, renewed, type SlotRole, slotOf, without } from './slots.js';
import { Wraps } from './wraps.js';

/**
 * The open keyring: the wrapped keys as a document, the unwrapped ones in the vault. Writes are one after the other; each
 * replaces the whole document atomically, so that a crash leaves the one before or the one after.
 */
export class Keyring implements Ring {
  readonly #vault: Vault;
  readonly #store: KeyStore;
  readonly #recordMac: Handle;
  readonly #usedSlot: string;
  readonly #keks: Map<string, Handle>;
  readonly #wraps: Wraps;
  #keys: RootKeys;
  #document: KeyringDocument;
  #lastWrite: Promise<unknown> = Promise.resolve();
  readonly #holds = new Holds();
  #reserving: Promise<void> | undefined;
  /** One that waits for its turn. */
  #refreshing: Promise<boolean> | undefined;

  private constructor(vault: Vault, store: KeyStore, { keys, recordMac, usedSlot, document, keks }: OpenKeyring) {
    this.#vault = vault;
    this.#store = store;
    this.#keys = keys;
    this.#recordMac = recordMac;
    this.#usedSlot = usedSlot;
    this.#document = document;
    this.#keks = keks;
    this.#wraps = new Wraps(activeOf(document).kekId);
    this.#show();
  }

  /** As `createKeyring`. */
  static async create(vault: Vault, store: KeyStore, master: Handle): Promise<Keyring> {
    return new Keyring(vault, store, await createKeyring(vault, store, master));
  }

  /** As `openKeyring`. */
  static open(vault: Vault, store: KeyStore, master: Handle, document: KeyringDocument): Keyring {
    return new Keyring(vault, store, openKeyring(vault, master, document));
  }

  /** Gives the vault what it opens and makes packed records with. */
  #show(): void {
    const { active } = this;
    const ring = [active, ...this.#document.keks.filter((kek) => kek !== active)];
    this.#vault.setRing(
      this.storeId,
      this.#recordMac,
      ring.map(({ kekId, kekVersion }) => [kekId, kekVersion, this.kek(kekId)]),
    );
  }

  get storeId(): string {
    return this.#document.storeId;
  }

  /** Raised by every write. */
  get generation(): number {
    return this.#document.generation;
  }

  /** The slot that this process was opened with. */
  get usedSlot(): string {
    return this.#usedSlot;
  }

  get recordMac(): Handle {
    return this.#recordMac;
  }

  get defaultKeyId(): string {
    return this.#document.defaultKeyId;
  }

  /** The KEK that wraps. */
  get active(): KeyringKek {
    return activeOf(this.#document);
  }

  /** Whether a rotation is under way: there is a KEK that only unwraps. */
  get isRotating(): boolean {
    return this.#document.keks.some((kek) => kek.state === 'decrypt-only');
  }

  holds(kekId: string): boolean {
    return this.#keks.has(kekId);
  }

  /** The KEK that a record names; STORE_UNAVAILABLE if it is gone. */
  kek(kekId: string): Handle {
    const handle = this.#keks.get(kekId);
    if (handle === undefined) throw new KmsError('STORE_UNAVAILABLE', 'the record names a KEK that the keyring does not hold');
    return handle;
  }

  /**
   * Runs `work` with the active KEK and `count` wraps counted for it. The KEK is the active one when `work` begins; a rotation waits
   * until it has ended, so that nothing is written under an older KEK after the rotation has begun to look. A rotation that another
   * daemon has begun meanwhile the store tells of, and `work` is done again with the KEK that is active by then.
   */
  async withKek<T>(work: (kek: ActiveKek) => Promise<T>, count = 1): Promise<T> {
    for (;;) {
      const { generation } = this;
      try {
        return await this.#withKekOnce(work, count);
      } catch (error) {
        if (!(error instanceof Superseded)) throw error;
        await this.refresh();
        // With the same keyring nothing else would come of it.
        if (generation === this.generation) throw error;
      }
    }
  }

  async #withKekOnce<T>(work: (kek: ActiveKek) => Promise<T>, count: number): Promise<T> {
    while (this.#wraps.left < count) {
      this.#reserving ??= this.#reserveWraps().finally(() => {
        this.#reserving = undefined;
      });
      await this.#reserving;
    }
    const { kekId, kekVersion } = this.active;
    this.#wraps.enter(count);
    try {
      return await work({ kekId, kekVersion, handle: this.kek(kekId) });
    } finally {
      this.#wraps.leave(kekId);
    }
  }

  /** Resolves when nothing is being written under a KEK that is no longer active. */
  drained(): Promise<void> {
    return this.#wraps.drained();
  }

  async #reserveWraps(): Promise<void> {
    const { block } = this.#wraps;
    let counted = '';
    const reserve = (draft: Draft) => {
      const active = activeOf(draft);
      counted = active.kekId;
      if (active.wrapsReserved + block > MAX_USES) throw new KmsError('KEY_EXHAUSTED', 'the KEK needs a rotation');
      const keks = draft.keks.map((kek) => (kek === active ? { ...kek, wrapsReserved: kek.wrapsReserved + block } : kek));
      return { ...draft, keks };
    };
    await this.#write(reserve, () => this.#wraps.granted(counted, block));
  }

  /** KEKs are not retired until `release`: who holds has read records whose keys stand under them. */
  holdRetirement(): () => void {
    return this.#holds.take();
  }

  /**
   * The document as it stands in the store, of the newest format, and a MAC key of the root key that is behind it. Both in one
   * step: a root key that came between them would make a MAC that this document cannot be asked for.
   */
  async snapshot(info: string): Promise<{ document: KeyringDocument; macKey: Handle }> {
    if (this.#document.format === 1) await this.#write((draft) => draft);
    await this.#lastWrite;
    const document = this.#document;
    return { document, macKey: this.#vault.derive(this.#keys.root, Buffer.from(document.storeId, 'utf8'), info, 'mac') };
  }

  /** For a keyring that comes from a backup: since then KEKs were used, and generations passed, that it knows nothing of. */
  async restored(
    wraps: number,
    leastGeneration: number,
    { defaultKeyId, auditKeys }: { defaultKeyId: string; auditKeys: () => AuditKey[] },
  ): Promise<void> {
    await this.#write((draft) => ({
      ...draft,
      generation: Math.max(draft.generation, leastGeneration),
      keks: draft.keks.map((kek) => ({ ...kek, wrapsReserved: Math.min(MAX_USES, kek.wrapsReserved + wraps) })),
      defaultKeyId,
      auditKeys: auditKeys(),
    }));
  }

  /** Resolves when no write is under way any more. */
  async settled(): Promise<void> {
    await this.#lastWrite;
  }

  async setDefaultKey(keyId: string): Promise<void> {
    await this.#write((draft) => ({ ...draft, defaultKeyId: keyId }));
  }

  // Rotation

  /**
   * Step 1: a new KEK wraps from here on, the one before only unwraps; with a master key given, that opens the store, too. One
   * write: a crash leaves the keyring before, or one from which every start goes on with the rotation.
   */
  async beginRotation(kekId: string, successor?: Handle): Promise<void> {
    const kek = this.#vault.generate('kek');
    const begin = (draft: Draft): Draft => {
      if (draft.keks.some((one) => one.state === 'decrypt-only')) throw new KmsError('CONFLICT', 'a rotation is under way');
      const active = activeOf(draft);
      if (active.kekVersion === MAX_KEK_VERSION) throw new KmsError('KEY_EXHAUSTED', 'there are no more KEK versions');
      const next = newKek(this.#vault, this.#keys.root, draft.storeId, kekId, active.kekVersion + 1, kek);
      const keks = [...draft.keks.map((one) => ({ ...one, state: 'decrypt-only' as const })), next];
      if (successor === undefined) return { ...draft, keks };
      return { ...draft, keks, slots: this.#withSlot(draft, successor, { kind: 'master', state: 'successor', expiresAt: '' }) };
    };
    try {
      await this.#write(begin, () => this.#keks.set(kekId, kek));
    } catch (error) {
      this.#vault.release(kek);
      throw error;
    }
  }

  /**
   * Step 4: all records stand under `kekId`, and none needs the KEKs beside it any more. They are wiped once the keyring without them is
   * durable. STORE_UNAVAILABLE where that one is no more the active one: another daemon has ended this rotation, and has begun
   * another one, whose records still need it.
   */
  async retireKeks(kekId: string): Promise<void> {
    // Who comes to hold them after this reads records that need them no more.
    await this.#holds.none();
    await this.#write(
      (draft) => {
        const kek = activeOf(draft);
        if (kek.kekId !== kekId) throw new KmsError('STORE_UNAVAILABLE', 'another daemon has begun another rotation by now');
        return { ...draft, keks: [kek] };
      },
      () => {
        for (const [id, handle] of this.#keks) {
          if (id === kekId) continue;
          this.#keks.delete(id);
          this.#vault.release(handle);
        }
      },
    );
  }

  // Slots

  get slots(): SlotDescription[] {
    return this.#document.slots.map((slot) => described(slot, this.#usedSlot));
  }

  #withSlot(draft: Draft, master: Handle, role: SlotRole) {
    const known = slotOf(this.#vault, master, draft.storeId, draft.slots);
    if (known !== undefined) return renewed(draft.slots, known, role);
    return added(draft.slots, makeSlot(this.#vault, master, this.#keys.root, draft.storeId, role));
  }

  /** Another way to open the store; the same key twice is one slot. Resolves to its description. */
  async addSlot(master: Handle, role: SlotRole): Promise<SlotDescription> {
    await this.#write((draft) => ({ ...draft, slots: this.#withSlot(draft, master, role) }));
    const slot = slotOf(this.#vault, master, this.storeId, this.#document.slots);
    if (slot === undefined) throw new KmsError('CONFLICT', 'the slot was removed again');
    return described(slot, this.#usedSlot);
  }

  /** The slots but this one; throws for one that has to stay. */
  slotsWithout(slotId: string, slots: readonly KeyringSlot[] = this.#document.slots): KeyringSlot[] {
    const rest = without(slots, slotId);
    if (slotId !== this.#usedSlot) return rest;
    throw new KmsError('CONFLICT', 'the store was opened with this slot; start with another master key first');
  }

  /** Resolves to the description of what is gone. */
  async removeSlot(slotId: string): Promise<SlotDescription> {
    let gone: SlotDescription | undefined;
    await this.#write((draft) => {
      const slots = this.slotsWithout(slotId, draft.slots);
      gone = draft.slots.filter((slot) => slot.slotId === slotId).map((slot) => described(slot, this.#usedSlot))[0];
      return { ...draft, slots };
    });
    return gone as SlotDescription;
  }

  /** What `confirmSlots` would take away. */
  get slotsToGo(): readonly KeyringSlot[] {
    const { succeeded, expired } = confirmed(this.#document.slots, this.#usedSlot);
    return [...succeeded, ...expired];
  }

  /** Makes the slot that this start used an active one, and takes away what it succeeds, and what has expired. */
  async confirmSlots(): Promise<Omit<Confirmed, 'slots'>> {
    let result = confirmed(this.#document.slots, this.#usedSlot);
    const isNothing = result.confirmed === undefined && result.succeeded.length + result.expired.length === 0;
    if (!isNothing) {
      await this.#write((draft) => {
        result = confirmed(draft.slots, this.#usedSlot);
        return { ...draft, slots: result.slots };
      });
    }
    return result;
  }

  // The audit log's keys

  get auditKeys(): readonly AuditKey[] {
    return this.#document.auditKeys;
  }

  /** `make` is called in the turn of the write, so that what it wraps is wrapped under the root key that is written. */
  async setAuditKeys(make: () => AuditKey[]): Promise<void> {
    await this.#write((draft) => ({ ...draft, auditKeys: make() }));
  }

  wrapSigning(signing: Handle, publicKey: Uint8Array): Uint8Array {
    return this.#vault.wrap(this.#keys.root, signing, auditKeyAad(this.storeId, publicKey));
  }

  unwrapSigning({ publicKey, wrapped }: AuditKey): Handle {
    return this.#vault.unwrap(this.#keys.root, wrapped, auditKeyAad(this.storeId, publicKey), 'signing');
  }

  // Writes

  #newest(draft: Draft): Draft {
    if (draft.format === 2) return draft;
    return {
      ...draft,
      format: 2,
      recordMac: this.#vault.wrap(this.#keys.root, this.#recordMac, recordMacAad(draft.storeId)),
    };
  }

  /**
   * `committed` runs in the step in which the new document takes the place of the old one. Where another daemon was first, the
   * change is made again to what that one has written.
   */
  #write(change: (draft: Draft) => Draft, committed: () => void = () => {}): Promise<void> {
    return this.#inTurn(async () => {
      for (;;) {
        try {
          return await this.#writeOnce(change, committed);
        } catch (error) {
          if (!(error instanceof Superseded) || !(await this.#follow())) throw error;
        }
      }
    });
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#lastWrite.then(work);
    this.#lastWrite = turn.catch(() => undefined);
    return turn;
  }

  async #writeOnce(change: (draft: Draft) => Draft, committed: () => void): Promise<void> {
    const { sha256: _sha256, mac: _mac, ...before } = this.#document;
    const after = change(this.#newest(before));
    const isRemoved = before.slots.some((slot) => !after.slots.some(({ slotId }) => slotId === slot.slotId));
    if (isRemoved) await this.#reroot(after, committed);
    else await this.#commit(this.#keys, after, committed);
  }

  /**
   * Takes over what other daemons have made of the keyring. Resolves to whether there was anything; throws as `follow`. Those who ask
   * before it is read share the answer: news of it can come faster than the keyring does, from anybody who may connect.
   */
  refresh(): Promise<boolean> {
    if (this.#store.shared === undefined) return Promise.resolve(false);
    this.#refreshing ??= this.#inTurn(() => {
      this.#refreshing = undefined;
      return this.#follow();
    });
    return this.#refreshing;
  }

  async #follow(): Promise<boolean> {
    const next = await readKeyring(this.#store);
    if (next === undefined) throw new KmsError('STORE_UNAVAILABLE', 'the keyring is gone');
    const known = { keys: this.#keys, document: this.#document, keks: this.#keks, usedSlot: this.#usedSlot };
    const followed = follow(this.#vault, known, next);
    if (followed === undefined) return false;
    if (followed.keys !== this.#keys) releaseRoot(this.#vault, this.#keys);
    this.#keys = followed.keys;
    this.#document = next;
    const gone = [...this.#keks].filter(([kekId]) => !followed.keks.has(kekId));
    for (const [kekId] of gone) this.#keks.delete(kekId);
    for (const [kekId, handle] of followed.keks) this.#keks.set(kekId, handle);
    this.#show();
    this.#wraps.activate(this.active.kekId);
    // Who still wraps under one of them is told by the store that it is late.
    void this.#wraps.drained().then(() => {
      for (const [, handle] of gone) this.#vault.release(handle);
    });
    return true;
  }

  /**
   * Whoever could open a slot that is gone may know the root key, so the others get a new one. Crash story: it and all that it
   * wraps come with one document; the old root key is wiped after that is durable, and opens nothing that is read afterwards.
   */
  async #reroot(draft: Draft, committed: () => void): Promise<void> {
    const before = this.#keys;
    const keys = rootKeys(this.#vault, this.#vault.generate('root'), draft.storeId);
    const auditKey = (key: AuditKey) => rerootedAuditKey(this.#vault, before.root, keys.root, draft.storeId, key);
    try {
      await this.#commit(keys, rerooted(this.#vault, before.root, keys.root, draft), committed, auditKey);
    } catch (error) {
      releaseRoot(this.#vault, keys);
      throw error;
    }
    releaseRoot(this.#vault, before);
  }

  async #commit(keys: RootKeys, draft: Draft, committed: () => void, auditKey?: (key: AuditKey) => AuditKey): Promise<void> {
    const next = sealDocument(this.#vault, keys, { ...draft, generation: draft.generation + 1 });
    const before = this.#document.generation;
    await this.#store.writeKeyring(next, auditKey === undefined ? { before } : { before, auditKey });
    this.#keys = keys;
    this.#document = next;
    committed();
    this.#show();
    this.#wraps.activate(this.active.kekId);
  }
}
