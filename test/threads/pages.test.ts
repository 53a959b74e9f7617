import test, { type ExecutionContext } from 'ava';
import { MAX_PAGE_BYTES } from '../../dist/limits.js';
import { Entries } from '../../dist/threads/jobs/entries.js';
import { openMemoryThreadStore } from '../../dist/threads/memory-store.js';
import { MessageIndex } from '../../dist/threads/message-index.js';
import { bytesOf } from '../../dist/threads/pages.js';
import type { ThreadDirectory } from '../../dist/threads/thread-directory.js';
import type { Entry, RangeQuery, ThreadStore, Unit } from '../../dist/threads/thread-store.js';
import type { Threads } from '../../dist/threads/threads.js';
import { OriginalServer } from './original-server.js';
import { allMessages, allVersions, embedded, encrypted, ground, opened, put, rotated } from './threads-ground.js';

const MIB = 1024 * 1024;
/** What a page may have at most, where no value is larger than two MiB. */
const MOST = MAX_PAGE_BYTES + 2 * MIB;

/** What a store has handed out: of each range, and while a job moves messages, of what is not written again yet. */
class Measured {
  readonly target: ThreadStore;
  readonly ranges: number[] = [];
  /** The most that was read and not yet written again. */
  most = 0;
  readonly #read = new Map<string, number>();
  #isMoving = false;

  constructor(store: ThreadStore) {
    this.target = {
      isShared: store.isShared,
      get: (keys) => store.get(keys),
      range: async (query: RangeQuery) => this.#seen(await store.range(query)),
      commit: async (units) => this.#committed(units, await store.commit(units)),
      compact: () => store.compact(),
      close: () => store.close(),
    };
  }

  #seen(found: Entry[]): Entry[] {
    this.ranges.push(bytesOf(found));
    if (this.#isMoving) for (const { key, value } of found) this.#read.set(key, value.length);
    const held = [...this.#read.values()].reduce((sum, bytes) => sum + bytes, 0);
    this.most = Math.max(this.most, held);
    return found;
  }

  #committed(units: readonly Unit[], made: boolean[]): boolean[] {
    for (const { expect, put: written } of units) {
      for (const { key } of expect) this.#read.delete(key);
      const job = written.find(({ key }) => key.startsWith('job:entry:'));
      if (job !== undefined) this.#isMoving = Buffer.from(job.value).includes('"phase":"move"');
    }
    return made;
  }

  get largest(): number {
    return Math.max(...this.ranges);
  }

  reset(): void {
    this.ranges.length = 0;
  }
}

const large = (i: number) => `${i} ${'x'.repeat(MIB)}`;
const numbers = (bodies: readonly unknown[]) => bodies.map((body) => Number.parseInt(String(body), 10));

async function measured(t: ExecutionContext): Promise<{ threads: Threads; measure: Measured; store: ThreadStore }> {
  const store = openMemoryThreadStore();
  const measure = new Measured(store);
  const threads = await opened(t, { kms: await embedded(t), store: measure.target });
  await threads.createThread({ threadId: 't' });
  return { threads, measure, store };
}

test('a listing of large messages comes in pages of so many bytes, each message once, both ways', async (t) => {
  const { threads, measure } = await measured(t);
  const all = Array.from({ length: 30 }, (_, i) => i);
  for (const i of all) await threads.append('t', { body: large(i) });
  measure.reset();
  for (const reverse of [false, true]) {
    const found: unknown[] = [];
    let pages = 0;
    for (let cursor: string | null | undefined; cursor !== null; pages += 1) {
      const page = await threads.list('t', { limit: 1_000, reverse, ...(cursor === undefined ? {} : { cursor }) });
      t.true(page.messages.length < 10);
      found.push(...page.messages.map(({ body }) => body));
      cursor = page.next;
    }
    t.deepEqual(numbers(found), reverse ? all.toReversed() : all);
    t.true(pages > 4);
  }
  t.true(measure.largest <= MOST && measure.largest > MAX_PAGE_BYTES, `${measure.largest}`);
});

test('versions come in pages too, as many as asked for or as their bytes allow, each once, both ways', async (t) => {
  const { threads, measure } = await measured(t);
  const { messageId } = await threads.append('t', { body: large(0) });
  const all = Array.from({ length: 20 }, (_, i) => i);
  for (const i of all) await threads.edit('t', messageId, large(i + 1));
  measure.reset();
  t.deepEqual(numbers((await allVersions(threads, 't', messageId)).map(({ body }) => body)), all);
  t.true(measure.largest <= MOST && measure.ranges.length > 2, `${measure.largest}`);
  const { versions, next } = await threads.versions('t', messageId, { limit: 2, reverse: true });
  t.deepEqual(numbers(versions.map(({ body }) => body)), [19, 18]);
  const after = await threads.versions('t', messageId, { limit: 2, reverse: true, cursor: next as string });
  t.deepEqual(numbers(after.versions.map(({ body }) => body)), [17, 16]);
  for (const query of [{ limit: 0 }, { limit: 1_001 }, { cursor: 'x' }]) {
    await t.throwsAsync(threads.versions('t', messageId, query), { code: 'INVALID_ARGUMENT' });
  }
  measure.reset();
  await threads.delete('t', messageId);
  t.true(measure.largest <= MOST);
});

test('a job moves large messages and their versions page by page', async (t) => {
  const { threads, measure } = await measured(t);
  for (let i = 0; i < 40; i += 1) await threads.append('t', { body: large(i) });
  const { messageId } = await threads.append('t', { body: large(40) });
  for (let i = 41; i < 60; i += 1) await threads.edit('t', messageId, large(i));
  for (let i = 60; i < 70; i += 1) await threads.append('t', { body: large(i) });
  measure.reset();
  const job = await rotated(threads, 't', { keepBackupsMs: 0, concurrency: 16 });
  t.is(job.state, 'done');
  t.is(job.total, 70);
  t.is(job.moved, 70);
  t.true(measure.largest <= MOST, `${measure.largest}`);
  t.deepEqual(numbers((await allMessages(threads, 't')).map(({ body }) => body)).slice(39), [
    39,
    59,
    ...Array.from({ length: 10 }, (_, i) => i + 60),
  ]);
  t.deepEqual(
    numbers((await allVersions(threads, 't', messageId)).map(({ body }) => body)),
    Array.from({ length: 19 }, (_, i) => i + 40),
  );
});

test('what a job has read and not yet rewritten is three pages at most', async (t) => {
  const { threads, measure } = await measured(t);
  for (let i = 0; i < 64; i += 1) await threads.append('t', { body: large(i) });
  t.is((await rotated(threads, 't', { keepBackupsMs: 0, concurrency: 16 })).moved, 64);
  t.true(measure.most > MAX_PAGE_BYTES && measure.most <= 3 * MOST, `${measure.most}`);
});

const somewhere = {} as ThreadDirectory;

function entriesIn(store: ThreadStore): Entries {
  return new Entries(store, new MessageIndex(store, somewhere));
}

test('a page of a job ends with its bytes or its number, wherever that is, and the next goes on exactly after it', async (t) => {
  const { threads, store } = await measured(t);
  const server = new OriginalServer(await embedded(t), store, 't');
  for (let i = 0; i < 5; i += 1) await threads.append('t', { body: i });
  const { messageId } = await threads.append('t', { body: 'edited' });
  for (let i = 0; i < 12; i += 1) await threads.edit('t', messageId, i % 3 === 0 ? large(i) : i);
  for (let i = 0; i < 30; i += 1) await server.append(String(i));
  const expected = [...(await keysBelow(store, 'thread:t:msg:')), ...(await keysBelow(store, 'version:'))];
  for (const limit of [1, 2, 3, 7, 16, 1_000]) {
    const walked: string[] = [];
    for (let after = ''; ; ) {
      const page = await entriesIn(store).page('t', after, limit);
      t.true(page.entries.length <= limit);
      walked.push(...page.entries.map(({ key }) => key));
      if (page.next === undefined) break;
      t.true(page.next > after);
      after = page.next;
    }
    t.deepEqual(walked.toSorted(), expected.toSorted(), `${limit}`);
  }
});

async function keysBelow(store: ThreadStore, prefix: string): Promise<string[]> {
  return (await store.range({ from: prefix, to: `${prefix}\x7f`, limit: 10_000 })).map(({ key }) => key);
}

test('no page of a job is longer than its bytes and one value, versions or not', async (t) => {
  const { threads, store } = await measured(t);
  const { messageId } = await threads.append('t', { body: large(0) });
  for (let i = 1; i < 12; i += 1) await threads.edit('t', messageId, large(i));
  for (let i = 12; i < 24; i += 1) await threads.append('t', { body: large(i) });
  let count = 0;
  for (let after: string | undefined = ''; after !== undefined; ) {
    const page = await entriesIn(store).page('t', after, 4_096);
    t.true(bytesOf(page.entries) <= MOST);
    count += page.entries.length;
    after = page.next;
  }
  t.is(count, 24);
});

test('pages of messages of a KiB are as large as a job asks for', async (t) => {
  const { threads, store } = await ground(t);
  await threads.createThread({ threadId: 't' });
  await threads.append('t', { body: 'x'.repeat(1_024) });
  const [entry] = await store.range({ from: 'thread:t:msg:', to: 'thread:t:msg;', limit: 1 });
  const text = Buffer.from(entry?.value as Uint8Array).toString();
  const id = JSON.parse(text).id as string;
  const messages = Array.from({ length: 4_100 }, (_, i) => {
    const place = `${String(i).padStart(20, '0')}-000001`;
    return [`thread:t:msg:${place}`, text.replace(id, `msg-${place}`)];
  });
  await put(store, Object.fromEntries(messages));
  t.is((await entriesIn(store).page('t', '', 4_096)).entries.length, 4_096);
});

test('the backups of large messages are put back, and removed, page by page', async (t) => {
  const { threads, measure } = await measured(t);
  for (let i = 0; i < 24; i += 1) await threads.append('t', { body: large(i) });
  const { jobId } = await rotated(threads, 't');
  measure.reset();
  t.deepEqual(await threads.restoreBackup(jobId), { restored: 24, changed: 0 });
  t.true(measure.largest <= MAX_PAGE_BYTES + 4 * MIB);
  await rotated(threads, 't');
  measure.reset();
  await threads.purge('t');
  t.true(measure.largest <= MAX_PAGE_BYTES + 4 * MIB);
  t.is((await encrypted(threads, 't').catch((error) => error)).code, 'NOT_FOUND');
});
