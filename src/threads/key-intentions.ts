import { randomUUID } from 'node:crypto';
import { PROVISIONS, provisionKey } from './names.js';
import { pagesOf } from './pages.js';
import type { Entry, ThreadStore, Unit } from './thread-store.js';

/** How long the maker of a key is waited for before it counts as dead: longer than a key service that answers at all takes. */
const LEASE_MS = 30_000;

interface Intention {
  /** Who makes the key. */
  owner: string;
  /** When it began, milliseconds since 1970. */
  at: number;
  /** When the first began who wanted the key, RFC 3339: none was made for it before. */
  since: string;
}

/**
 * What says that somebody is about to have a key made for a thread: durable before the key service is asked, and gone with the
 * change that brings the key into the thread's record. Whoever finds it afterwards knows that there may be a key that no record
 * names. It is its maker's alone until that one counts as dead.
 */
export class KeyIntentions {
  readonly #store: ThreadStore;
  readonly #now: () => number;
  readonly #owner = randomUUID();

  constructor(store: ThreadStore, now: () => number) {
    this.#store = store;
    this.#now = now;
  }

  async all(): Promise<Entry[]> {
    const found: Entry[] = [];
    for await (const page of pagesOf(this.#store, PROVISIONS)) found.push(...page);
    return found;
  }

  async of(threadId: string): Promise<Uint8Array | undefined> {
    return (await this.#store.get([provisionKey(threadId)]))[0];
  }

  /** Our own, in place of what was found; undefined if that is not there any more, or what `also` expects is not as it was. */
  async take(
    threadId: string,
    found: Uint8Array | undefined,
    also: Unit['expect'] = [],
    since = found === undefined ? new Date(this.#now()).toISOString() : beginOf(found),
  ): Promise<Uint8Array | undefined> {
    const key = provisionKey(threadId);
    const own = Buffer.from(JSON.stringify({ owner: this.#owner, at: this.#now(), since } satisfies Intention));
    const [isMade] = await this.#store.commit([
      { expect: [{ key, value: found }, ...also], put: [{ key, value: own }], remove: [] },
    ]);
    return isMade ? own : undefined;
  }

  async drop(threadId: string, own: Uint8Array): Promise<void> {
    await this.#store.commit([end(threadId, own)]);
  }

  isDead(intention: Uint8Array): boolean {
    // Those under way in this process are known to it: what else is found in a store of our own, somebody left who died.
    if (!this.#store.isShared) return true;
    const { owner, at } = JSON.parse(Buffer.from(intention).toString('utf8')) as Intention;
    const age = this.#now() - at;
    // One from the future is of a clock that was set back since: nobody would ever wait long enough for it.
    return owner === this.#owner || age > LEASE_MS || age < -LEASE_MS;
  }
}

/** RFC 3339. */
export function beginOf(intention: Uint8Array): string {
  return (JSON.parse(Buffer.from(intention).toString('utf8')) as Intention).since;
}

/** What belongs into the change that brings the key into the thread's record: it is made by whose intention still stands. */
export function end(threadId: string, own: Uint8Array): Unit {
  const key = provisionKey(threadId);
  return { expect: [{ key, value: own }], put: [], remove: [key] };
}
