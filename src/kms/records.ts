import { KmsError } from '../errors.js';
import { canonicalRecord } from '../store/canonical.js';
import { DamagedDocument, type KeyMeta, type RecordStore, Superseded } from '../store/key-store.js';
import type { Vault } from '../vault.js';
import type { Ring } from './ring.js';

type Draft = Omit<KeyMeta, 'mac'>;
/** What of a record may change once it is made; the rest is bound into its wrapped key, as the KEK is, which changes with it. */
export type Change = Partial<Pick<KeyMeta, 'state' | 'wrapped' | 'kekId' | 'kekVersion' | 'usesReserved'>>;

/** A writer that lost against another one tries again this often; each loss means that somebody else's write succeeded. */
const MOST_TRIES = 64;

/**
 * The records of a store behind their authentication: nothing is believed before its MAC matched, nothing is written
 * without one. A record that does not verify is set aside and reported, and the others keep serving; put right on disk,
 * it is taken up again by the next read.
 */
export class Records {
  readonly #vault: Vault;
  readonly #store: RecordStore;
  readonly #keyring: Ring;
  readonly #damaged = new Map<string, string>();
  /** The last write of each key under way: writes of one record follow one another. */
  readonly #writes = new Map<string, Promise<unknown>>();

  constructor(vault: Vault, store: RecordStore, keyring: Ring) {
    this.#vault = vault;
    this.#store = store;
    this.#keyring = keyring;
  }

  get damaged(): Array<{ keyId: string; reason: string }> {
    return [...this.#damaged].map(([keyId, reason]) => ({ keyId, reason }));
  }

  /** Why the record is set aside; undefined if it was sound when it was read last. */
  reasonAgainst(keyId: string): string | undefined {
    return this.#damaged.get(keyId);
  }

  /** After the record was taken away. */
  forgetDamage(keyId: string): void {
    this.#damaged.delete(keyId);
  }

  #setAside(keyId: string, reason: string): KmsError {
    this.#damaged.set(keyId, reason);
    return new KmsError('STORE_UNAVAILABLE', `the record of ${keyId} is damaged: ${reason}`);
  }

  #verified(keyId: string, record: KeyMeta | undefined): KeyMeta {
    if (record === undefined) {
      this.#damaged.delete(keyId);
      throw new KmsError('KEY_NOT_FOUND');
    }
    if (record.storeId !== this.#keyring.storeId) throw this.#setAside(keyId, 'it belongs to another store');
    if (record.keyId !== keyId) throw this.#setAside(keyId, `it is the record of ${record.keyId}`);
    if (!this.#vault.macMatches(this.#keyring.recordMac, canonicalRecord(record), record.mac)) {
      throw this.#setAside(keyId, 'its authentication code does not match');
    }
    this.#damaged.delete(keyId);
    return record;
  }

  #refused(keyId: string, cause: unknown): unknown {
    return cause instanceof DamagedDocument ? this.#setAside(keyId, cause.message) : cause;
  }

  /** The record, verified. KEY_NOT_FOUND, or STORE_UNAVAILABLE for one that is set aside. */
  async read(keyId: string): Promise<KeyMeta> {
    const record = await this.#read(keyId);
    if (this.#store.shared === undefined || record.state === 'destroyed' || this.#keyring.holds(record.kekId)) return record;
    // Another daemon has moved it to a KEK that is not known here yet, or had it moved since it was read.
    await this.#keyring.refresh();
    return this.#read(keyId);
  }

  async #read(keyId: string): Promise<KeyMeta> {
    let record: KeyMeta | undefined;
    try {
      record = await this.#store.readRecord(keyId);
    } catch (cause) {
      throw this.#refused(keyId, cause);
    }
    return this.#verified(keyId, record);
  }

  readSync(keyId: string): KeyMeta {
    let record: KeyMeta | undefined;
    try {
      record = this.#store.readRecordSync(keyId);
    } catch (cause) {
      throw this.#refused(keyId, cause);
    }
    return this.#verified(keyId, record);
  }

  /** Marks what a key's own check found: its wrapped key does not open. */
  reportUnopenable(keyId: string): KmsError {
    return this.#setAside(keyId, 'its wrapped key does not open');
  }

  #sealed(draft: Draft): KeyMeta {
    return { ...draft, mac: this.#vault.mac(this.#keyring.recordMac, canonicalRecord(draft)) };
  }

  async create(draft: Draft): Promise<KeyMeta> {
    const record = this.#sealed(draft);
    await this.#store.createRecord(record);
    return record;
  }

  /**
   * For an update that finds nothing to change: while the store refuses writes, what was read may be a write that never became
   * durable, and "it is so already" would promise that it did.
   */
  #confirmed(record: KeyMeta): KeyMeta {
    const fault = this.#store.fault();
    if (fault !== null) throw new KmsError('STORE_UNAVAILABLE', fault);
    return record;
  }

  /** Resolves when no write of this object is under way any more. */
  async settled(): Promise<void> {
    await Promise.all(this.#writes.values());
  }

  #next(record: KeyMeta, change: Change): KeyMeta {
    const { mac: _mac, ...draft } = record;
    return this.#sealed({ ...draft, ...change, version: draft.version + 1, updatedAt: new Date().toISOString() });
  }

  /**
   * Re-reads the record, asks `decide` what changes (undefined: nothing), and writes that durably. One at a time per key;
   * against a synchronous writer that came between, the store's version check decides, and this one begins again. `known` is
   * the record as it was just read, which is read again only if that is no longer so.
   */
  update(keyId: string, decide: (record: KeyMeta) => Change | undefined, known?: KeyMeta): Promise<KeyMeta> {
    const before = this.#writes.get(keyId) ?? Promise.resolve();
    const write = before.then(() => this.#updateNow(keyId, decide, known));
    const settled = write
      .catch(() => undefined)
      .then(() => {
        if (this.#writes.get(keyId) === settled) this.#writes.delete(keyId);
      });
    this.#writes.set(keyId, settled);
    return write;
  }

  async #updateNow(keyId: string, decide: (record: KeyMeta) => Change | undefined, known?: KeyMeta): Promise<KeyMeta> {
    for (let tries = 1; ; tries += 1) {
      const record = tries === 1 && known !== undefined ? known : await this.read(keyId);
      const change = decide(record);
      if (change === undefined) return this.#confirmed(record);
      const next = this.#next(record, change);
      try {
        await this.#store.replaceRecord(next);
        return next;
      } catch (error) {
        // Damaged since it was read: it is set aside, as a read would have it.
        const isLost = error instanceof KmsError && error.code === 'CONFLICT' && !(error instanceof Superseded);
        if (!isLost || tries === MOST_TRIES) throw this.#refused(keyId, error);
      }
    }
  }

  /** The same in one synchronous step, for callers that cannot wait. */
  updateSync(keyId: string, decide: (record: KeyMeta) => Change | undefined): KeyMeta {
    const record = this.readSync(keyId);
    const change = decide(record);
    if (change === undefined) return this.#confirmed(record);
    const next = this.#next(record, change);
    this.#store.replaceRecordSync(next);
    return next;
  }
}
