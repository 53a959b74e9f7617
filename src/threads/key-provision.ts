import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { KmsError } from '../errors.js';
import type { CreatedKey, Provider } from '../provider.js';
import { destroyKey, disableKey } from './key-ends.js';
import { mapKey, PROVISIONS, provisionKey, threadKey } from './names.js';
import { newThread, readThread, type ThreadKeys } from './thread-record.js';
import type { Entry, ThreadStore } from './thread-store.js';

/** How long the maker of a thread is waited for before it counts as dead: longer than a key service that answers at all takes. */
const LEASE_MS = 30_000;
const LOOK_AGAIN_MS = 25;
const PAGE = 500;

interface Provision {
  /** Who makes the key. */
  owner: string;
  /** When it began, milliseconds since 1970. */
  at: number;
  /** When the first began who wanted the thread, RFC 3339: no key was made for it before. */
  since: string;
}

function beginOf(intention: Uint8Array): string {
  return (JSON.parse(Buffer.from(intention).toString('utf8')) as Provision).since;
}

/** What is known of keys that a dead maker of a thread may have left. */
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
 * Makes threads, each with one key however many ask for it at once, here and in other processes. The intention is durable before
 * the key service is asked, and goes in the same change that brings the thread's record: after a crash between the two, the
 * thread is not there and the intention is, and whoever comes next looks for the key and takes it.
 */
export class KeyProvision {
  readonly orphans: Orphans = { adopted: [], destroyed: [], unknown: [] };
  readonly #kms: Provider | undefined;
  readonly #store: ThreadStore;
  readonly #now: () => number;
  readonly #owner = randomUUID();
  readonly #underWay = new Map<string, Promise<boolean>>();

  constructor(kms: Provider | undefined, store: ThreadStore, now: () => number) {
    this.#kms = kms;
    this.#store = store;
    this.#now = now;
  }

  /** Durable when it resolves, with whether this call made the thread. */
  make(threadId: string, ts: string, title: string | undefined): Promise<boolean> {
    const other = this.#underWay.get(threadId);
    if (other !== undefined) return other.then(() => false);
    const work = this.#make(threadId, ts, title).finally(() => this.#underWay.delete(threadId));
    this.#underWay.set(threadId, work);
    return work;
  }

  /** Ends what makers left that have died. Those of this process are not among them. */
  async reap(): Promise<void> {
    const kms = this.#kms;
    for (const { key, value } of await this.#intentions()) {
      const threadId = key.slice(PROVISIONS.prefix.length);
      if (!this.#isDead(value) || this.#underWay.has(threadId)) continue;
      if (kms === undefined) {
        this.orphans.unknown.push(threadId);
        continue;
      }
      // From here on whoever wants the thread waits for us: he would take a key that we destroy.
      const own = this.#intention(beginOf(value));
      const claim = { expect: [{ key, value }], put: [{ key, value: own }], remove: [] };
      if (!(await this.#store.commit([claim]))[0]) continue;
      const [record] = await this.#store.get([threadKey(threadId)]);
      const known = record === undefined ? [] : (readThread(threadId, record).keys?.all ?? []);
      for (const keyId of await this.#keysLeft(threadId, { known, since: beginOf(value) })) await this.discard(keyId);
      await this.#store.commit([{ expect: [{ key, value: own }], put: [], remove: [key] }]);
    }
  }

  async #intentions(): Promise<Entry[]> {
    const found: Entry[] = [];
    for (let { from, to } = PROVISIONS; ; ) {
      const page = await this.#store.range({ from, to, limit: PAGE });
      found.push(...page);
      const last = page.at(-1);
      if (last === undefined || page.length < PAGE) return found;
      from = `${last.key} `;
    }
  }

  /** One more key for a thread: a new one, or, where somebody may have died before he could write it down, the one he had made. */
  async another(threadId: string, traces: Traces | undefined): Promise<ThreadKeys> {
    if (this.#kms === undefined) throw new KmsError('UNSUPPORTED', 'there is no key service to encrypt with');
    return this.#key(threadId, traces);
  }

  async disable(keyIds: readonly string[]): Promise<void> {
    for (const keyId of keyIds) {
      if (this.#kms !== undefined) await disableKey(this.#kms, keyId);
    }
  }

  async #make(threadId: string, ts: string, title: string | undefined): Promise<boolean> {
    const meta = threadKey(threadId);
    const intention = provisionKey(threadId);
    const made: string[] = [];
    for (;;) {
      const [record, found] = await this.#store.get([meta, intention]);
      if (record !== undefined) {
        // Somebody took us for dead, and has made the thread: with our key, or with another one, and then ours is nobody's.
        const { keys } = readThread(threadId, record);
        for (const keyId of made) if (!keys?.all.includes(keyId)) await this.discard(keyId);
        return false;
      }
      if (found !== undefined && !this.#isDead(found)) {
        await delay(LOOK_AGAIN_MS);
        continue;
      }
      if (this.#kms === undefined) {
        const put = [{ key: meta, value: newThread(threadId, ts, title, undefined) }];
        if ((await this.#store.commit([{ expect: [{ key: meta, value: undefined }], put, remove: [] }]))[0]) return true;
        continue;
      }
      const own = this.#intention(found === undefined ? undefined : beginOf(found));
      const begin = {
        expect: [
          { key: meta, value: undefined },
          { key: intention, value: found },
        ],
        put: [{ key: intention, value: own }],
      };
      if (!(await this.#store.commit([{ ...begin, remove: [] }]))[0]) continue;
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
      const key = provisionKey(threadId);
      if (traces === undefined && isRefusal(error)) {
        await this.#store.commit([{ expect: [{ key, value: own }], put: [], remove: [key] }]);
      }
      throw error;
    }
  }

  async #write(threadId: string, own: Uint8Array, record: Uint8Array, keyId: string): Promise<boolean> {
    const meta = threadKey(threadId);
    const intention = provisionKey(threadId);
    const put = [
      { key: meta, value: record },
      { key: mapKey(threadId), value: Buffer.from(keyId, 'latin1') },
    ];
    const expect = [
      { key: meta, value: undefined },
      { key: intention, value: own },
    ];
    const [isMade] = await this.#store.commit([{ expect, put, remove: [intention] }]);
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
          else this.orphans.unknown.push(threadId);
        }
        if (page.next === null) return found;
        cursor = page.next;
      }
    } catch (error) {
      if (!(error instanceof KmsError) || error.code !== 'PERMISSION_DENIED') throw error;
      this.orphans.unknown.push(threadId);
      return [];
    }
  }

  /** Destroys a key that nothing refers to. */
  async discard(keyId: string): Promise<void> {
    await destroyKey(this.#kms as Provider, keyId);
    this.orphans.destroyed.push(keyId);
  }

  /** `since`: when the first of those began who have tried. */
  #intention(since = new Date(this.#now()).toISOString()): Uint8Array {
    return Buffer.from(JSON.stringify({ owner: this.#owner, at: this.#now(), since } satisfies Provision));
  }

  #isDead(intention: Uint8Array): boolean {
    // Those of this process are in `underWay`: what else is found in a store of our own, somebody left who died.
    if (!this.#store.isShared) return true;
    const { owner, at } = JSON.parse(Buffer.from(intention).toString('utf8')) as Provision;
    const age = this.#now() - at;
    // An intention from the future is of a clock that was set back since: nobody would ever wait long enough for it.
    return owner === this.#owner || age > LEASE_MS || age < -LEASE_MS;
  }
}
