import { randomBytes } from 'node:crypto';
import { KmsError } from '../errors.js';
import { MAX_KEK_VERSION, MAX_USES } from '../limits.js';
import type { SlotDescription } from '../provider.js';
import { auditKeyAad, canonicalKeyring, kekAad, recordMacAad } from '../store/canonical.js';
import type { AuditKey, KeyringDocument, KeyringKek, KeyringSlot, KeyStore } from '../store/key-store.js';
import type { Handle, Vault } from '../vault.js';
import { activeOf, newKek, newKekId } from './keyring-document.js';
import { type Draft, deriveRecordMac, type RootKeys, releaseRoot, rerooted, rootKeys, sealDocument } from './root-keys.js';
import {
  added,
  type Confirmed,
  confirmed,
  described,
  FIRST_SLOT,
  makeSlot,
  openSlots,
  renewed,
  type SlotRole,
  slotOf,
  without,
} from './slots.js';
import { Wraps } from './wraps.js';

export interface ActiveKek {
  kekId: string;
  kekVersion: number;
  handle: Handle;
}

/**
 * The open keyring: the wrapped keys as a document, the unwrapped ones in the vault. Writes are one after the other; each
 * replaces the whole document atomically, so that a crash leaves the one before or the one after.
 */
export class Keyring {
  readonly #vault: Vault;
  readonly #store: KeyStore;
  readonly #recordMac: Handle;
  readonly #usedSlot: string;
  readonly #keks = new Map<string, Handle>();
  readonly #wraps: Wraps;
  #keys: RootKeys;
  #document: KeyringDocument;
  #lastWrite: Promise<unknown> = Promise.resolve();
  /** Each resolves when its holder lets go. */
  readonly #holds = new Set<Promise<void>>();
  #reserving: Promise<void> | undefined;

  private constructor(
    vault: Vault,
    store: KeyStore,
    keys: RootKeys,
    recordMac: Handle,
    usedSlot: string,
    document: KeyringDocument,
  ) {
    this.#vault = vault;
    this.#store = store;
    this.#keys = keys;
    this.#recordMac = recordMac;
    this.#usedSlot = usedSlot;
    this.#document = document;
    this.#wraps = new Wraps(activeOf(document).kekId);
  }

  /** Makes the first keyring of a store: one slot, a root key, KEK version 1. Durable when it resolves. */
  static async create(vault: Vault, store: KeyStore, master: Handle): Promise<Keyring> {
    const storeId = randomBytes(16).toString('hex');
    const keys = rootKeys(vault, vault.generate('root'), storeId);
    const recordMac = deriveRecordMac(vault, keys.root, storeId);
    const slot = makeSlot(vault, master, keys.root, storeId, FIRST_SLOT);
    const handle = vault.generate('kek');
    const kek = newKek(vault, keys.root, storeId, newKekId(), 1, handle);
    const document = sealDocument(vault, keys, {
      format: 2,
      storeId,
      generation: 1,
      slots: [slot],
      keks: [kek],
      recordMac: vault.wrap(keys.root, recordMac, recordMacAad(storeId)),
      auditKeys: [],
      defaultKeyId: '',
    });
    await store.writeKeyring(document);
    const keyring = new Keyring(vault, store, keys, recordMac, slot.slotId, document);
    keyring.#keks.set(kek.kekId, handle);
    keyring.#show();
    return keyring;
  }

  /** Opens a document that `readKeyring` gave. Throws UNAUTHENTICATED for a wrong master key, STORE_UNAVAILABLE if it was tampered with. */
  static open(vault: Vault, store: KeyStore, master: Handle, document: KeyringDocument): Keyring {
    const { storeId } = document;
    const { slotId, root } = openSlots(vault, master, document);
    const keys = rootKeys(vault, root, storeId);
    if (!vault.macMatches(keys.keyringMac, canonicalKeyring(document), document.mac)) {
      throw new KmsError('STORE_UNAVAILABLE', 'the keyring was tampered with: its authentication code does not match');
    }
    const recordMac =
      document.format === 1
        ? deriveRecordMac(vault, root, storeId)
        : vault.unwrap(root, document.recordMac, recordMacAad(storeId), 'mac');
    const keyring = new Keyring(vault, store, keys, recordMac, slotId, document);
    for (const kek of document.keks) {
      keyring.#keks.set(kek.kekId, vault.unwrap(root, kek.wrapped, kekAad(storeId, kek.kekId, kek.kekVersion), 'kek'));
    }
    keyring.#show();
    return keyring;
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
   * until it has ended, so that nothing is written under an older KEK after the rotation has begun to look.
   */
  async withKek<T>(work: (kek: ActiveKek) => Promise<T>, count = 1): Promise<T> {
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
    let free = () => {};
    const held = new Promise<void>((resolve) => {
      free = resolve;
    });
    this.#holds.add(held);
    return () => {
      this.#holds.delete(held);
      free();
    };
  }

  async #unheld(): Promise<void> {
    while (this.#holds.size > 0) await Promise.all(this.#holds);
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

  /** Step 4: no record needs the older KEKs any more. They are wiped once the keyring without them is durable. */
  async retireKeks(): Promise<void> {
    // Who comes to hold them after this reads records that need them no more.
    await this.#unheld();
    await this.#write(
      (draft) => ({ ...draft, keks: draft.keks.filter((kek) => kek.state === 'active') }),
      () => {
        for (const [kekId, handle] of this.#keks) {
          if (kekId === this.active.kekId) continue;
          this.#keks.delete(kekId);
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

  /** `committed` runs in the step in which the new document takes the place of the old one. */
  #write(change: (draft: Draft) => Draft, committed: () => void = () => {}): Promise<void> {
    const write = this.#lastWrite.then(async () => {
      const { sha256: _sha256, mac: _mac, ...before } = this.#document;
      const after = change(this.#newest(before));
      const isRemoved = before.slots.some((slot) => !after.slots.some(({ slotId }) => slotId === slot.slotId));
      if (isRemoved) await this.#reroot(after, committed);
      else await this.#commit(this.#keys, after, committed);
    });
    this.#lastWrite = write.catch(() => undefined);
    return write;
  }

  /**
   * Whoever could open a slot that is gone may know the root key, so the others get a new one. Crash story: it and all that it
   * wraps come with one document; the old root key is wiped after that is durable, and opens nothing that is read afterwards.
   */
  async #reroot(draft: Draft, committed: () => void): Promise<void> {
    const before = this.#keys;
    const keys = rootKeys(this.#vault, this.#vault.generate('root'), draft.storeId);
    try {
      await this.#commit(keys, rerooted(this.#vault, before.root, keys.root, draft), committed);
    } catch (error) {
      releaseRoot(this.#vault, keys);
      throw error;
    }
    releaseRoot(this.#vault, before);
  }

  async #commit(keys: RootKeys, draft: Draft, committed: () => void): Promise<void> {
    const next = sealDocument(this.#vault, keys, { ...draft, generation: draft.generation + 1 });
    await this.#store.writeKeyring(next);
    this.#keys = keys;
    this.#document = next;
    committed();
    this.#show();
    this.#wraps.activate(this.active.kekId);
  }
}
