import type { ExecutionContext } from 'ava';
import { createEmbeddedKms, type EmbeddedKms } from '../../dist/create.js';
import { KmsError } from '../../dist/errors.js';
import type { Provider } from '../../dist/provider.js';
import type { JobOptions, JobStatus } from '../../dist/threads/jobs/job.js';
import { openMemoryThreadStore } from '../../dist/threads/memory-store.js';
import type { Message } from '../../dist/threads/thread.js';
import type { ThreadStore } from '../../dist/threads/thread-store.js';
import { openThreads, type Threads, type ThreadsOptions } from '../../dist/threads/threads.js';

export async function embedded(t: ExecutionContext): Promise<EmbeddedKms> {
  const kms = await createEmbeddedKms({ memory: true });
  t.teardown(() => kms.close());
  return kms;
}

/** Threads that are closed with the test. */
export async function opened(t: ExecutionContext, options: ThreadsOptions): Promise<Threads> {
  const threads = await openThreads(options);
  t.teardown(() => threads.close());
  return threads;
}

export interface Ground {
  kms: EmbeddedKms;
  store: ThreadStore;
  threads: Threads;
}

export async function ground(t: ExecutionContext, more: Partial<ThreadsOptions> = {}): Promise<Ground> {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  return { kms, store, threads: await opened(t, { kms, store, ...more }) };
}

/** Sees each call of an object's methods before it is made and after; what it throws, the caller gets. */
export interface Watch {
  before?(method: string, args: readonly unknown[]): void | Promise<void>;
  after?(method: string, args: readonly unknown[]): void | Promise<void>;
}

export function watched<T extends object>(target: T, watch: Watch, changes: Partial<T> = {}): T {
  return new Proxy(target, {
    get(_, name) {
      if (name in changes) return changes[name as keyof T];
      const member = target[name as keyof T];
      if (typeof member !== 'function') return member;
      return async (...args: unknown[]) => {
        await watch.before?.(String(name), args);
        const result = await member.apply(target, args);
        await watch.after?.(String(name), args);
        return result;
      };
    },
  });
}

/** Dies in the middle of the nth call of the objects it watches: before it is made, or after, when nobody hears of it any more. */
export class Mortality {
  calls = 0;
  isDead = false;
  readonly #at: number;
  readonly #when: 'before' | 'after';

  constructor(at = 0, when: 'before' | 'after' = 'before') {
    this.#at = at;
    this.#when = when;
  }

  of<T extends object>(target: T): T {
    return watched(target, {
      before: () => {
        this.#refuseDead();
        this.calls += 1;
        if (this.#when === 'before') this.#strike();
      },
      after: () => {
        if (this.#when === 'after') this.#strike();
        this.#refuseDead();
      },
    });
  }

  #strike(): void {
    // Others may have been made before it was answered.
    if (this.#at > 0 && this.calls >= this.#at) this.isDead = true;
    this.#refuseDead();
  }

  #refuseDead(): void {
    if (this.isDead) throw new KmsError('STORE_UNAVAILABLE', 'struck by the test');
  }
}

/** Counts the calls of each method. */
export function counted<T extends object>(target: T): { target: T; counts: Record<string, number> } {
  const counts: Record<string, number> = {};
  const before = (method: string) => {
    counts[method] = (counts[method] ?? 0) + 1;
  };
  return { target: watched(target, { before }), counts };
}

/** A provider that nobody answers from. */
export function unreachable(kms: Provider): Provider {
  return watched(kms, {
    before: () => {
      throw new KmsError('STORE_UNAVAILABLE', 'cannot connect to the key service');
    },
  });
}

export async function entriesOf(store: ThreadStore): Promise<Map<string, string>> {
  const entries = await store.range({ from: '', to: '\x7f', limit: 1_000_000 });
  return new Map(entries.map(({ key, value }) => [key, Buffer.from(value).toString('utf8')]));
}

/** All values of a store as one text; what its backups hold stands in them as it was. */
export async function textOf(store: ThreadStore): Promise<string> {
  return [...(await entriesOf(store)).values()].join('\n');
}

/** The names of the keys that the messages of a thread, and their versions, are under. */
export async function keysInUse(store: ThreadStore): Promise<Set<string>> {
  const found = new Set<string>();
  for (const [key, text] of await entriesOf(store)) {
    if (!/^(thread:.+:msg|version):/.test(key)) continue;
    for (const [, keyId] of text.matchAll(/"_enc":"gcm1","k":"(k_[^"]+)"/g)) found.add(keyId as string);
  }
  return found;
}

export async function put(store: ThreadStore, entries: Record<string, string>): Promise<void> {
  const list = Object.entries(entries).map(([key, text]) => ({ key, value: Buffer.from(text, 'utf8') }));
  await store.commit([{ expect: [], put: list, remove: [] }]);
}

export async function allMessages(threads: Threads, threadId: string): Promise<Message[]> {
  const messages: Message[] = [];
  for (let cursor: string | undefined; ; ) {
    const page = await threads.list(threadId, { limit: 1_000, ...(cursor === undefined ? {} : { cursor }) });
    messages.push(...page.messages);
    if (page.next === null) return messages;
    cursor = page.next;
  }
}

export async function allVersions(threads: Threads, threadId: string, messageId: string): Promise<Message[]> {
  const versions: Message[] = [];
  for (let cursor: string | undefined; ; ) {
    const page = await threads.versions(threadId, messageId, cursor === undefined ? {} : { cursor });
    versions.push(...page.versions);
    if (page.next === null) return versions;
    cursor = page.next;
  }
}

/** The job at its end. */
export async function rotated(threads: Threads, threadId: string, options: Partial<JobOptions> = {}): Promise<JobStatus> {
  const { jobId } = await threads.rotateThreadDek(threadId, options);
  return threads.waitForJob(jobId);
}

export async function encrypted(threads: Threads, threadId: string, options: Partial<JobOptions> = {}): Promise<JobStatus> {
  const { jobId } = await threads.encryptExisting(threadId, options);
  return threads.waitForJob(jobId);
}

export async function stateOf(kms: Provider, keyId: string | null): Promise<string> {
  return (await kms.describeKey(keyId as string)).state;
}
