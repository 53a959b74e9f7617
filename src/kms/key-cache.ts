import { KmsError } from '../errors.js';
import { FIRST_USES, MAX_USE_BLOCK, MAX_USES, MIN_USE_BLOCK, SOFT_USES } from '../limits.js';
import { dekAad } from '../store/canonical.js';
import type { KeyMeta, PackedRecords } from '../store/key-store.js';
import { bellRang, type Handle, type Vault } from '../vault.js';
import { checkKeyId } from './calls.js';
import type { Records } from './records.js';
import type { Ring } from './ring.js';

/** A key in the vault as TypeScript knows it. The handle may have become stale: the native call says so. */
export interface CachedKey {
  handle: Handle;
  keyVersion: string;
}

/** Remembered handles; a plain map that is emptied when full, because the vault itself decides what stays unwrapped. */
const MOST_REMEMBERED = 65_536;
/** Records written at once when unused reservations are returned. */
const RETURNS_AT_ONCE = 32;

/** The caches of this thread, which share its bell: whoever hears it answers for all. */
const open = new Set<KeyCache>();

/** Starts reservations for keys whose uses are half gone; those who run out meanwhile wait for the same promise. */
export function answerDoorbell(): void {
  if (bellRang()) for (const cache of open) cache.supply();
}

/** A read under way. It is stale when the key's state changed meanwhile: what was read must not be put into the vault. */
interface Fetch {
  key: Promise<CachedKey>;
  stale: boolean;
  /** Called in the step that brings the key. */
  uses: Array<(key: CachedKey) => void>;
}

/** What this process has reserved for a key: up to which count, and how much the last time. */
interface Reserved {
  upTo: number;
  block: number;
}

/** Blocks double from one reservation of a life to the next: a busy key writes seldom, and a crash loses little of an idle one. */
function nextBlock(last: number, reserved: number): number {
  return Math.min(Math.max(MIN_USE_BLOCK, Math.min(2 * last, MAX_USE_BLOCK)), MAX_USES - reserved);
}

/**
 * Brings keys into the vault and keeps them supplied with reserved uses. Crash story of a reservation: the record's
 * `uses_reserved` is raised durably before the vault may use the block, so that what was used was always reserved; a crash
 * between the two loses the block, which only counts as used.
 */
export class KeyCache {
  readonly #vault: Vault;
  readonly #records: Records;
  readonly #keyring: Ring;
  readonly #onReserved: (keyId: string, usesReserved: number) => void;
  readonly #packed: PackedRecords | undefined;
  readonly #remembered = new Map<string, CachedKey>();
  /** The one that was asked for last: messages of one thread come in a row, and comparing one id is cheaper than finding it. */
  #lastId = '';
  #last: CachedKey | undefined;
  readonly #fetches = new Map<string, Fetch>();
  readonly #reservations = new Map<string, Promise<void>>();
  readonly #nearLimit = new Set<string>();
  /** Keys whose first record is being written, and of which nothing was heard since. */
  readonly #expected = new Set<string>();
  /** By key. A record that says less than this was put back by somebody. */
  readonly #reserved = new Map<string, Reserved>();

  constructor(
    vault: Vault,
    records: Records,
    keyring: Ring,
    onReserved: (keyId: string, usesReserved: number) => void,
    packed?: PackedRecords,
  ) {
    this.#packed = packed;
    this.#vault = vault;
    this.#records = records;
    this.#keyring = keyring;
    this.#onReserved = onReserved;
    open.add(this);
  }

  /** No more bells are answered. */
  close(): void {
    open.delete(this);
  }

  get nearLimit(): string[] {
    return [...this.#nearLimit];
  }

  /** A key that is in the vault as far as is known, undefined if it has to be fetched. INVALID_ARGUMENT for what is no key id. */
  known(keyId: string): CachedKey | undefined {
    // Nothing is asked for last where there is no key: what is no id at all must not find one here.
    if (this.#last !== undefined && keyId === this.#lastId) return this.#last;
    const key = this.#remembered.get(keyId) ?? this.#found(keyId);
    this.#last = key;
    this.#lastId = keyId;
    return key;
  }

  #found(keyId: string): CachedKey | undefined {
    const handle = this.#vault.find(checkKeyId(keyId));
    return handle === 0 ? undefined : this.remember(keyId, handle);
  }

  remember(keyId: string, handle: Handle): CachedKey {
    if (this.#remembered.size >= MOST_REMEMBERED) this.#remembered.clear();
    const key = { handle, keyVersion: this.#vault.kekVersionOf(handle) };
    this.#remembered.set(keyId, key);
    this.#last = undefined;
    return key;
  }

  forget(keyId: string): void {
    this.#last = undefined;
    this.#remembered.delete(keyId);
  }

  /**
   * Before the first record of a key is written: others see it, and may disable it, before its maker hears that it is durable. To be
   * followed by `unexpect`, whatever comes of it.
   */
  expect(keyId: string): void {
    this.#expected.add(keyId);
  }

  unexpect(keyId: string): void {
    this.#expected.delete(keyId);
  }

  /** The record is durable: the key serves, unless it was retired meanwhile; its next use asks its record then. Takes `dek` over. */
  admit(keyId: string, dek: Handle, kekVersion: number, uses: number): void {
    if (this.#expected.has(keyId)) this.#vault.publish(dek, keyId, kekVersion, uses);
    else this.#vault.release(dek);
  }

  /** Wipes the key, or leaves its new state as the vault's answer; nothing read or made before can bring it back. */
  retire(keyId: string, how: 'evicted' | 'disabled' | 'destroyed'): void {
    this.#expected.delete(keyId);
    const fetch = this.#fetches.get(keyId);
    if (fetch !== undefined) fetch.stale = true;
    this.forget(keyId);
    this.#vault.retire(keyId, how);
  }

  /** Wipes all of them: whatever was read before may have changed since. */
  retireAll(): void {
    this.#expected.clear();
    for (const fetch of this.#fetches.values()) fetch.stale = true;
    this.#last = undefined;
    this.#remembered.clear();
    this.#vault.retireAll();
  }

  /** Puts the key of a verified record into the vault, or its state if that is not active. */
  #install(record: KeyMeta): CachedKey {
    const { keyId } = record;
    if (record.state !== 'active') {
      this.#vault.retire(keyId, record.state);
      return this.remember(keyId, this.#vault.find(keyId));
    }
    let dek: Handle;
    try {
      dek = this.#vault.unwrap(this.#keyring.kek(record.kekId), record.wrapped, dekAad(record), 'dek');
    } catch (error) {
      if (error instanceof KmsError && error.code === 'AUTHENTICATION_FAILED') throw this.#records.reportUnopenable(keyId);
      throw error;
    }
    // Also a key that was used up before this process came has been met.
    if (record.usesReserved >= SOFT_USES) this.#nearLimit.add(keyId);
    try {
      return this.remember(keyId, this.#vault.publish(dek, keyId, record.kekVersion, 0));
    } catch (error) {
      this.#vault.release(dek);
      throw error;
    }
  }

  /** Whether `load` can bring anything. */
  get hasRecordsAtHand(): boolean {
    return this.#packed !== undefined;
  }

  /** Brings a key, or its state, into the vault in this step. Where it cannot, `fetch` says why. */
  load(keyId: string): boolean {
    try {
      const record = this.#packed?.readSync(keyId);
      return record !== undefined && this.#vault.loadRecord(keyId, record) > 0;
    } catch {
      return false;
    }
  }

  /** One read for all who want the key at the same time. `use` has it before anything can evict it again; it must not throw. */
  async fetch(keyId: string, use?: (key: CachedKey) => void): Promise<CachedKey> {
    const isLoaded = this.load(keyId);
    // The handle that is remembered may be that of a life before.
    this.forget(keyId);
    const loaded = isLoaded ? this.known(keyId) : undefined;
    if (loaded === undefined) return this.#fetch(keyId, use);
    use?.(loaded);
    return loaded;
  }

  #fetch(keyId: string, use?: (key: CachedKey) => void): Promise<CachedKey> {
    const known = this.#fetches.get(keyId);
    if (known !== undefined) {
      if (use !== undefined) known.uses.push(use);
      return known.key;
    }
    const uses = use === undefined ? [] : [use];
    const fetch: Fetch = { stale: false, uses, key: Promise.resolve().then(() => this.#fetchNow(keyId, fetch)) };
    this.#fetches.set(keyId, fetch);
    return fetch.key;
  }

  async #fetchNow(keyId: string, fetch: Fetch): Promise<CachedKey> {
    try {
      for (;;) {
        fetch.stale = false;
        const record = await this.#records.read(keyId);
        if (!fetch.stale) return this.#brought(record, fetch);
      }
    } finally {
      this.#fetches.delete(keyId);
    }
  }

  #brought(record: KeyMeta, { uses }: Fetch): CachedKey {
    const key = this.#install(record);
    for (const use of uses) use(key);
    return key;
  }

  fetchSync(keyId: string): void {
    if (!this.load(keyId)) this.#install(this.#records.readSync(keyId));
  }

  /** Reserves for the keys that asked. What goes wrong is told to the call that runs out of uses. */
  supply(): void {
    for (const keyId of this.#vault.takeUseRequests()) this.reserve(keyId).catch(() => undefined);
  }

  /** Resolves when the key has more uses. KEY_EXHAUSTED at its end. */
  reserve(keyId: string): Promise<void> {
    const known = this.#reservations.get(keyId);
    if (known !== undefined) return known;
    const reservation = this.#reserveNow(keyId).finally(() => this.#reservations.delete(keyId));
    this.#reservations.set(keyId, reservation);
    return reservation;
  }

  async #reserveNow(keyId: string): Promise<void> {
    let next: Reserved | undefined;
    const record = await this.#records.update(keyId, (before) => {
      next = this.#nextFor(before);
      return { usesReserved: next.upTo };
    });
    this.#granted(record, next as Reserved | undefined);
  }

  reserveSync(keyId: string): void {
    let next: Reserved | undefined;
    const record = this.#records.updateSync(keyId, (before) => {
      next = this.#nextFor(before);
      return { usesReserved: next.upTo };
    });
    this.#granted(record, next as Reserved | undefined);
  }

  /** From a record that was put back from an older copy the count goes on where it was. */
  #nextFor({ keyId, state, usesReserved }: KeyMeta): Reserved {
    if (state === 'disabled') throw new KmsError('KEY_DISABLED');
    if (state === 'destroyed') throw new KmsError('KEY_DESTROYED');
    const before = this.#reserved.get(keyId);
    const reserved = Math.max(usesReserved, before?.upTo ?? 0);
    const block = nextBlock(before?.block ?? 0, reserved);
    if (block <= 0) throw new KmsError('KEY_EXHAUSTED');
    return { upTo: reserved + block, block };
  }

  #granted({ keyId, usesReserved }: KeyMeta, next: Reserved | undefined): void {
    if (next === undefined) return;
    this.#vault.grantUses(keyId, next.block);
    if (this.#reserved.size >= MOST_REMEMBERED) this.#reserved.clear();
    this.#reserved.set(keyId, next);
    if (usesReserved >= SOFT_USES) this.#nearLimit.add(keyId);
    this.#onReserved(keyId, usesReserved);
  }

  /**
   * Gives reserved and unused uses back to the records, the largest rests first, until the time is up. The vault has
   * given them up before a record says so; what is not returned stays counted as used. Nothing is returned to a record that
   * says less than this process reserved: it is an older copy that somebody put back.
   */
  async returnUnused(milliseconds: number): Promise<void> {
    const until = Date.now() + milliseconds;
    // A block on its way to its record would come too late to be given back.
    await Promise.allSettled(this.#reservations.values());
    const rests = this.#vault.takeUnusedUses().sort((a, b) => b[1] - a[1]);
    // Not `shift`, which moves all that come after: of a million that takes longer than a write.
    let next = 0;
    const worker = async (): Promise<void> => {
      while (next < rests.length && Date.now() < until) {
        const [keyId, uses] = rests[next++]!;
        await this.#records.update(keyId, (record) => this.#returned(record, uses)).catch(() => undefined);
      }
    };
    await Promise.all(Array.from({ length: RETURNS_AT_ONCE }, worker));
  }

  #returned(record: KeyMeta, uses: number): { usesReserved: number } | undefined {
    const least = Math.max(uses, this.#reserved.get(record.keyId)?.upTo ?? FIRST_USES);
    if (record.state === 'destroyed' || record.usesReserved < least) return undefined;
    return { usesReserved: record.usesReserved - uses };
  }
}
