import { setTimeout as delay } from 'node:timers/promises';
import { asKmsError, KmsError } from '../errors.js';
import type { CreatedKey, Provider } from '../provider.js';
import { destroyKey, disableKey, enableKey } from './key-ends.js';
import { beginOf, end, KeyIntentions } from './key-intentions.js';
import { mapKey, PROVISIONS, provisionKey, threadKey } from './names.js';
import { newThread, readThread, type ThreadKeys } from './thread-record.js';
import type { Entry, ThreadStore, Unit } from './thread-store.js';

const LOOK_AGAIN_MS = 25;

/** What is known of keys that a dead maker may have left. */
export interface Orphans {
  /** Taken for the thread they were made for, or destroyed. */
  adopted: string[];
  destroyed: string[];
  /**
   * Threads for which there may be a key that nobody refers to: the key service does not show us its keys, or there are some that
   * are older than our wish for one, and may be another application's.
   */
  unknown: string[];
}

/** A key that no record names yet, and the intention by which it is found. */
export interface MadeKey {
  threadId: string;
  keys: ThreadKeys;
  intention: Uint8Array;
}

/** Threads whose makers have left something that could not be ended now. */
export type Unreaped = Array<{ threadId: string; reason: string }>;

/** Where somebody who died may have left a key. */
export interface Traces {
  /** Those in use. */
  known: readonly string[];
  /** When he began, RFC 3339. */
  since: string;
}

/** How far the clock of the key service may be behind ours. */
const CLOCK_SKEW_MS = 5_000;

/** What says that nothing has been made: anything else may be an answer that was lost on its way. */
const REFUSALS = new Set(['INVALID_ARGUMENT', 'UNAUTHENTICATED', 'PERMISSION_DENIED', 'SEALED', 'BUSY', 'UNSUPPORTED']);

function isRefusal(error: unknown): boolean {
  return error instanceof KmsError && REFUSALS.has(error.code);
}

function keysOf({ keyId, wrapped, kekId, kekVersion }: CreatedKey): ThreadKeys {
  return { keyId, wrapped: Buffer.from(wrapped).toString('base64'), kekId, kekVersion, all: [keyId] };
}

/**
 * Makes threads, each with one key however many ask for it at once, here and in other processes, and further keys for them. The
 * intention is durable before the key service is asked, and goes in the same change that brings the key into the thread's record:
 * after a crash between the two, the record does not name the key and the intention is there, and whoever comes next looks for
 * the key, and takes or destroys it.
 */
export class KeyProvision {
  readonly orphans: Orphans = { adopted: [], destroyed: [], unknown: [] };
  readonly #kms: Provider | undefined;
  readonly #store: ThreadStore;
  readonly #intentions: KeyIntentions;
  readonly #underWay = new Map<string, Promise<boolean>>();
  /** Threads that get another key this moment. */
  readonly #renewed = new Set<string>();

  constructor(kms: Provider | undefined, store: ThreadStore, now: () => number) {
    this.#kms = kms;
    this.#store = store;
    this.#intentions = new KeyIntentions(store, now);
  }

  /** Durable when it resolves, with whether this call made the thread. */
  make(threadId: string, ts: string, title: string | undefined): Promise<boolean> {
    const other = this.#underWay.get(threadId);
    if (other !== undefined) return other.then(() => false);
    const work = this.#make(threadId, ts, title).finally(() => this.#underWay.delete(threadId));
    this.#underWay.set(threadId, work);
    return work;
  }

  /** Ends what makers left that have died. Those of this process are not among them. What cannot be ended now is told, and stays. */
  async reap(): Promise<Unreaped> {
    const left: Unreaped = [];
    for (const found of await this.#intentions.all()) {
      const fault = await this.#reap(found);
      if (fault !== undefined) left.push({ threadId: threadOf(found), reason: fault.message });
    }
    return left;
  }

  /** As `reap`, for one thread; what cannot be ended now, a start ends. */
  async reapOf(threadId: string): Promise<void> {
    const value = await this.#intentions.of(threadId);
    if (value !== undefined) await this.#reap({ key: provisionKey(threadId), value });
  }

  /** Why the key service could not be asked, if it could not. */
  async #reap(found: Entry): Promise<KmsError | undefined> {
    const threadId = threadOf(found);
    if (this.#isBusy(threadId) || !this.#intentions.isDead(found.value)) return undefined;
    if (this.#kms === undefined) {
      this.#isUnknown(threadId);
      return undefined;
    }
    // From here on whoever wants the thread waits for us: he would take a key that we destroy.
    const own = await this.#intentions.take(threadId, found.value);
    if (own === undefined) return undefined;
    const [record] = await this.#store.get([threadKey(threadId)]);
    const known = record === undefined ? [] : (readThread(threadId, record).keys?.all ?? []);
    try {
      for (const keyId of await this.#keysLeft(threadId, { known, since: beginOf(own) })) await this.discard(keyId);
    } catch (error) {
      return asKmsError(error);
    }
    await this.#intentions.drop(threadId, own);
    return undefined;
  }

  #isBusy(threadId: string): boolean {
    return this.#underWay.has(threadId) || this.#renewed.has(threadId);
  }

  #isUnknown(threadId: string): void {
    if (!this.orphans.unknown.includes(threadId)) this.orphans.unknown.push(threadId);
  }

  /**
   * One more key for a thread: a new one, or, where somebody may have died before he could write it down, the one he had made.
   * Until it is named or withdrawn, it is found by its intention.
   */
  async another(threadId: string, known: readonly string[], traces: Traces | undefined): Promise<MadeKey> {
    if (this.#kms === undefined) throw new KmsError('UNSUPPORTED', 'there is no key service to encrypt with');
    this.#renewed.add(threadId);
    try {
      for (;;) {
        const found = await this.#intentions.of(threadId);
        if (found !== undefined && !this.#intentions.isDead(found)) {
          await delay(LOOK_AGAIN_MS);
          continue;
        }
        const left = found === undefined ? traces : earlier({ known, since: beginOf(found) }, traces);
        const intention = await this.#intentions.take(threadId, found, [], left?.since);
        if (intention === undefined) continue;
        return { threadId, keys: await this.#wanted(threadId, intention, left), intention };
      }
    } catch (error) {
      this.#renewed.delete(threadId);
      throw error;
    }
  }

  /** What belongs into the change that names the key in the thread's record. */
  naming({ threadId, intention }: MadeKey): Unit {
    return end(threadId, intention);
  }

  /** Whether it is still ours to name: otherwise somebody has taken us for dead. */
  async holds({ threadId, intention }: MadeKey): Promise<boolean> {
    const found = await this.#intentions.of(threadId);
    return found !== undefined && Buffer.compare(found, intention) === 0;
  }

  /** It is named, or left to whoever comes next. */
  release({ threadId }: MadeKey): void {
    this.#renewed.delete(threadId);
  }

  /**
   * Destroys a key that nobody is to have any more. While the intention is ours, nobody else has taken the key: it is taken anew
   * first, so that nobody does meanwhile. Who stalls between these two for longer than he counts as alive may yet destroy what
   * was taken over from him: the key service knows nothing of intentions.
   */
  async withdraw(made: MadeKey): Promise<void> {
    const { threadId, keys, intention } = made;
    try {
      const own = await this.#intentions.take(threadId, intention);
      if (own === undefined) return await this.#discardUnlessTaken(made);
      await this.discard(keys.keyId);
      await this.#intentions.drop(threadId, own);
    } finally {
      this.release(made);
    }
  }

  /** Somebody took us for dead: he has found our key, or has one of his own, and ours is nobody's then. */
  async #discardUnlessTaken({ threadId, keys: { keyId } }: MadeKey): Promise<void> {
    for (;;) {
      const [record, found] = await this.#store.get([threadKey(threadId), provisionKey(threadId)]);
      if (found === undefined) {
        const all = record === undefined ? [] : (readThread(threadId, record).keys?.all ?? []);
        if (!all.includes(keyId)) await this.discard(keyId);
        return;
      }
      // If he has died as well, whoever ends what he left finds our key with his.
      if (this.#intentions.isDead(found)) return;
      await delay(LOOK_AGAIN_MS);
    }
  }

  async disable(keyIds: readonly string[]): Promise<void> {
    for (const keyId of keyIds) {
      if (this.#kms !== undefined) await disableKey(this.#kms, keyId);
    }
  }

  /** Those that are not destroyed. */
  async enable(keyIds: readonly string[]): Promise<void> {
    for (const keyId of keyIds) {
      if (this.#kms !== undefined) await enableKey(this.#kms, keyId);
    }
  }

  async #make(threadId: string, ts: string, title: string | undefined): Promise<boolean> {
    const meta = threadKey(threadId);
    const made: string[] = [];
    for (;;) {
      const [record, found] = await this.#store.get([meta, provisionKey(threadId)]);
      if (record !== undefined) {
        // Somebody took us for dead, and has made the thread: with our key, or with another one, and then ours is nobody's.
        const { keys } = readThread(threadId, record);
        for (const keyId of made) if (!keys?.all.includes(keyId)) await this.discard(keyId);
        return false;
      }
      if (found !== undefined && !this.#intentions.isDead(found)) {
        await delay(LOOK_AGAIN_MS);
        continue;
      }
      const isNew = { key: meta, value: undefined };
      if (this.#kms === undefined) {
        const put = [{ key: meta, value: newThread(threadId, ts, title, undefined) }];
        if ((await this.#store.commit([{ expect: [isNew], put, remove: [] }]))[0]) return true;
        continue;
      }
      const own = await this.#intentions.take(threadId, found, [isNew]);
      if (own === undefined) continue;
      const traces = found === undefined ? undefined : { known: [], since: beginOf(found) };
      const keys = await this.#wanted(threadId, own, traces);
      if (await this.#write(threadId, own, newThread(threadId, ts, title, keys), keys.keyId)) return true;
      made.push(keys.keyId);
    }
  }

  /** Where nothing can have been made, nobody need look for it. */
  async #wanted(threadId: string, own: Uint8Array, traces: Traces | undefined): Promise<ThreadKeys> {
    try {
      return await this.#key(threadId, traces);
    } catch (error) {
      if (traces === undefined && isRefusal(error)) await this.#intentions.drop(threadId, own);
      throw error;
    }
  }

  async #write(threadId: string, own: Uint8Array, record: Uint8Array, keyId: string): Promise<boolean> {
    const meta = threadKey(threadId);
    const put = [
      { key: meta, value: record },
      { key: mapKey(threadId), value: Buffer.from(keyId, 'latin1') },
    ];
    const { expect, remove } = end(threadId, own);
    const [isMade] = await this.#store.commit([{ expect: [{ key: meta, value: undefined }, ...expect], put, remove }]);
    return isMade === true;
  }

  async #key(threadId: string, traces: Traces | undefined): Promise<ThreadKeys> {
    const kms = this.#kms as Provider;
    const [left, ...more] = traces === undefined ? [] : await this.#keysLeft(threadId, traces);
    for (const keyId of more) await this.discard(keyId);
    if (left === undefined) return keysOf(await kms.createDekForThread(threadId));
    this.orphans.adopted.push(left);
    const { kekId, kekVersion } = await kms.describeKey(left);
    const wrapped = await kms.getWrapped(left).catch(() => new Uint8Array(0));
    return keysOf({ keyId: left, wrapped, kekId, kekVersion });
  }

  /** Active keys of a thread that nothing refers to, and that were made since. */
  async #keysLeft(threadId: string, { known, since }: Traces): Promise<string[]> {
    const found: string[] = [];
    const earliest = Date.parse(since) - CLOCK_SKEW_MS;
    try {
      for (let cursor: string | undefined; ; ) {
        const page = await (this.#kms as Provider).listKeys({ threadId, ...(cursor === undefined ? {} : { cursor }) });
        for (const { keyId, state, createdAt } of page.keys) {
          if (state !== 'active' || known.includes(keyId)) continue;
          // Another application may have keys for threads of the same name.
          if (Date.parse(createdAt) >= earliest) found.push(keyId);
          else this.#isUnknown(threadId);
        }
        if (page.next === null) return found;
        cursor = page.next;
      }
    } catch (error) {
      if (!(error instanceof KmsError) || error.code !== 'PERMISSION_DENIED') throw error;
      this.#isUnknown(threadId);
      return [];
    }
  }

  /** Destroys a key that nothing refers to. */
  async discard(keyId: string): Promise<void> {
    await destroyKey(this.#kms as Provider, keyId);
    this.orphans.destroyed.push(keyId);
  }
}

function threadOf({ key }: Entry): string {
  return key.slice(PROVISIONS.prefix.length);
}

function earlier(one: Traces, other: Traces | undefined): Traces {
  return other !== undefined && Date.parse(other.since) < Date.parse(one.since) ? other : one;
}
