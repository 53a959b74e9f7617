import test from 'ava';
import type { EmbeddedKms } from '../../dist/create.js';
import { KmsError } from '../../dist/errors.js';
import type { Provider } from '../../dist/provider.js';
import { openMemoryThreadStore } from '../../dist/threads/memory-store.js';
import type { ThreadStore } from '../../dist/threads/thread-store.js';
import { openThreads, Threads } from '../../dist/threads/threads.js';
import { bytesOf, newStorePath, openedLmdb } from './lmdb-ground.js';
import { OriginalServer } from './original-server.js';
import { allMessages, embedded, entriesOf, ground, Mortality, opened, rotated, stateOf, watched } from './threads-ground.js';

/** A thread with all that one can have: edits, deletions, two keys, backups, what the original wrote; and one beside it. */
async function full(kms: EmbeddedKms, store: ThreadStore, threadId: string): Promise<string[]> {
  const server = new OriginalServer(kms, store, threadId);
  await server.createThread();
  const { id } = await server.append(await server.envelope('"old"'));
  const threads = await openThreads({ kms, store });
  await threads.ensureThread('beside');
  await threads.append('beside', { body: 'beside' });
  for (let i = 0; i < 3; i += 1) {
    const { messageId } = await threads.append(threadId, { body: `body-${i}` });
    await threads.edit(threadId, messageId, `edited-${i}`);
    if (i === 2) {
      await rotated(threads, threadId);
      await rotated(threads, threadId);
      await threads.delete(threadId, messageId);
    }
  }
  await threads.edit(threadId, id, 'edited');
  await threads.close();
  return (await kms.listKeys({ threadId })).keys.map(({ keyId }) => keyId);
}

const leftOf = async (store: ThreadStore, threadId: string) =>
  [...(await entriesOf(store))].filter(([key, text]) => (key + text).includes(threadId));

test('a purge that dies at any call is gone on with by the next start, and leaves nothing', async (t) => {
  const kms = await embedded(t);
  const whole = new Mortality();
  const first = openMemoryThreadStore();
  await full(kms, first, 'whole');
  const counting = await openThreads({ kms: whole.of(kms as Provider), store: whole.of(first) });
  const opening = whole.calls;
  await counting.purge('whole');
  t.true(whole.calls - opening > 10);
  for (const when of ['before', 'after'] as const) {
    for (let at = opening + 1; at <= whole.calls; at += 1) {
      const threadId = `victim-${when}-${at}`;
      const store = openMemoryThreadStore();
      const keys = await full(kms, store, threadId);
      t.is(keys.length, 3);
      const death = new Mortality(at, when);
      const dying = await openThreads({ kms: death.of(kms as Provider), store: death.of(store) });
      await t.throwsAsync(dying.purge(threadId), { code: 'STORE_UNAVAILABLE' });
      const next = await openThreads({ kms, store });
      const isBegun = (await next.thread(threadId)) === undefined;
      t.true(isBegun || at <= opening + 2, `${threadId} was promised to go`);
      if (!isBegun) await next.purge(threadId);
      for (const keyId of keys) t.is(await stateOf(kms, keyId), 'destroyed', threadId);
      t.deepEqual(await leftOf(store, threadId), [], threadId);
      t.deepEqual(
        (await allMessages(next, 'beside')).map(({ body }) => body),
        ['beside'],
      );
      await next.close();
    }
  }
});

test('from the moment a purge begins nobody reads or writes the thread, and its name is free at the end', async (t) => {
  const { store, threads } = await ground(t);
  const { keyId } = await threads.createThread({ threadId: 't' });
  const { messageId } = await threads.append('t', { body: 'body' });
  const purge = threads.purge('t');
  const meanwhile = await Promise.allSettled([
    threads.append('t', { body: 'late' }),
    threads.list('t'),
    threads.edit('t', messageId, 'late'),
  ]);
  await purge;
  for (const one of meanwhile)
    if (one.status === 'rejected')
      t.true(['NOT_FOUND', 'KEY_DISABLED', 'KEY_DESTROYED'].includes(one.reason.code), one.reason.code);
  t.deepEqual([...(await entriesOf(store)).keys()], []);
  await t.throwsAsync(threads.append('t', { body: 'late' }), { code: 'NOT_FOUND' });
  await t.throwsAsync(threads.list('t'), { code: 'NOT_FOUND' });
  const again = await threads.createThread({ threadId: 't' });
  t.not(again.keyId, keyId);
  t.deepEqual((await threads.list('t')).messages, []);
});

test('a thread that is purged in the middle of a job is gone, with the keys of both, and its name can be rotated again', async (t) => {
  const { kms, store, threads } = await ground(t);
  await threads.createThread({ threadId: 't' });
  for (let i = 0; i < 30; i += 1) await threads.append('t', { body: `body-${i}` });
  const { jobId } = await threads.rotateThreadDek('t', { messagesPerSecond: 1 });
  while ((await threads.job(jobId)).moved === 0) await new Promise((resolve) => setTimeout(resolve, 10));
  await threads.purge('t');
  t.deepEqual(await leftOf(store, '"t"'), []);
  t.deepEqual(await leftOf(store, ':t:'), []);
  for (const { state } of (await kms.listKeys({ threadId: 't' })).keys) t.is(state, 'destroyed');
  await threads.createThread({ threadId: 't' });
  for (const body of ['again', 'and', 'again']) await threads.append('t', { body });
  const next = await threads.rotateThreadDek('t', { messagesPerSecond: 1 });
  // The old job is gone with the thread, and sets the new one free for no third.
  await t.throwsAsync(threads.cancelJob(jobId), { code: 'NOT_FOUND' });
  await t.throwsAsync(threads.rotateThreadDek('t'), { code: 'CONFLICT' });
  t.is((await threads.waitForJob(next.jobId)).state, 'done');
  t.is((await threads.list('t')).messages[0]?.body, 'again');
});

test('nothing of a purged thread is in the bytes of an LMDB store', async (t) => {
  const kms = await embedded(t);
  const path = newStorePath(t);
  const store = await openedLmdb(t, path);
  const keys = await full(kms, store, 'victim');
  const threads = await opened(t, { kms, store });
  const ciphertexts = [...(await entriesOf(store)).values()].flatMap((text) =>
    [...text.matchAll(/"v":"([^"]+)"/g)].map(([, v]) => v as string),
  );
  const own = ciphertexts.slice(0, -1);
  const isThere = (text: string) => bytesOf(path).some((bytes) => bytes.includes(text));
  t.true(own.some(isThere));
  await threads.purge('victim');
  const beside = [...(await entriesOf(store)).values()].join('\n');
  for (const text of own) t.is(isThere(text), beside.includes(text));
  t.is(keys.length, 3);
  t.is(await stateOf(kms, keys[0] as string), 'destroyed');
});

test('a thread with keys is not purged without its key service', async (t) => {
  const { store, threads } = await ground(t);
  await threads.createThread({ threadId: 't' });
  const plain = await openThreads({ store });
  await t.throwsAsync(plain.purge('t'), { code: 'UNSUPPORTED' });
  t.is((await threads.thread('t'))?.threadId, 't', 'nothing of it was begun');
  await t.notThrowsAsync(openThreads({ store }));
});

test('a thread whose keys may not be destroyed holds up no start and no other purge, and is told', async (t) => {
  const { kms, store, threads } = await ground(t);
  let isRefused = true;
  const narrowed = new Proxy(kms, {
    get(target, name) {
      const value = Reflect.get(target, name);
      if (name === 'destroyKey' && isRefused) return async () => Promise.reject(new KmsError('PERMISSION_DENIED'));
      return typeof value === 'function' ? value.bind(target) : value;
    },
  }) as Provider;
  for (const threadId of ['a', 'b']) await threads.createThread({ threadId });
  await threads.append('a', { body: 'kept unreadable' });
  const refused = await openThreads({ kms: narrowed, store });
  await t.throwsAsync(refused.purge('a'), { code: 'PERMISSION_DENIED' });
  const next = await openThreads({ kms: narrowed, store });
  t.is(await next.thread('a'), undefined);
  t.is((await next.thread('b'))?.threadId, 'b');
  t.deepEqual((await next.recover()).unpurged, [{ threadId: 'a', reason: 'permission denied' }]);
  isRefused = false;
  const { purged, unpurged } = await next.recover();
  t.deepEqual([purged, unpurged], [['a'], []]);
  t.deepEqual(await leftOf(store, 'thread:a'), []);
});

test('what jobs have kept of messages that are there no more, or cannot be read, goes with their thread, and no other thread\u2019s does', async (t) => {
  const { store, threads } = await ground(t);
  for (const threadId of ['t', 'tt']) {
    await threads.createThread({ threadId });
    const { messageId } = await threads.append(threadId, { body: 'body' });
    await threads.edit(threadId, messageId, 'edited');
    await rotated(threads, threadId);
  }
  const all = [...(await entriesOf(store)).keys()];
  const [message] = all.filter((key) => key.startsWith('thread:t:msg:')) as [string];
  // As a foreign hand, or a damaged disk, may leave it.
  await store.commit([{ expect: [], put: [{ key: message, value: Buffer.from('{') }], remove: [] }]);
  const isOf = (key: string, text: string, threadId: string) =>
    key.startsWith(`backup:migrate:thread:${threadId}:`) || text.includes(`"threadId":"${threadId}"`);
  const kept = async (threadId: string) =>
    [...(await entriesOf(store))].filter(([key, text]) => isOf(key, text, threadId)).length;
  const beside = await kept('tt');
  t.is(await kept('t'), beside);
  t.is(beside, 4, 'a job, its mark, and two backups');
  await threads.purge('t');
  t.is(await kept('t'), 0);
  t.is(await kept('tt'), beside);
});

test('who goes on with a purge that another has ended takes nothing from the new thread of the name', async (t) => {
  const { kms, store, threads } = await ground(t);
  await threads.createThread({ threadId: 't' });
  await threads.append('t', { body: 'old' });
  let isOver = false;
  // Its keys are destroyed; before it removes anything, another process does all the rest, and the name is taken again.
  const stalled = watched(store, {
    before: async (method, args) => {
      if (isOver || method !== 'commit' || !JSON.stringify(args).includes('"remove":["thread:t:msg:')) return;
      isOver = true;
      await threads.recover();
      await threads.createThread({ threadId: 't' });
      await threads.append('t', { body: 'new' });
    },
  });
  await (await opened(t, { kms, store: watched(stalled, {}, { isShared: true }) })).purge('t');
  t.true(isOver);
  t.deepEqual(
    (await allMessages(threads, 't')).map(({ body, error }) => error ?? body),
    ['new'],
  );
});

test('a purge that dies before the store is compacted leaves that to the next start', async (t) => {
  const kms = await embedded(t);
  const path = newStorePath(t);
  const store = await openedLmdb(t, path);
  const threads = await opened(t, { kms, store });
  await threads.createThread({ threadId: 't', title: 'a title that is seen' });
  const isThere = () => bytesOf(path).some((bytes) => bytes.includes('a title that is seen'));
  const dying = watched(store, {
    before: (method) => {
      if (method === 'compact') throw new KmsError('STORE_UNAVAILABLE', 'struck by the test');
    },
  });
  await t.throwsAsync(new Threads({ kms, store: dying }).purge('t'), { code: 'STORE_UNAVAILABLE' });
  t.is(await threads.thread('t'), undefined);
  t.true(isThere());
  // A start where it fails again says so, and is one.
  t.regex((await openThreads({ kms, store: dying })).recovered?.uncompacted as string, /struck by the test/);
  t.is((await openThreads({ kms, store })).recovered?.uncompacted, null);
  t.false(isThere());
});

test('a purge destroys a key, too, that a job which failed may have had made', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  const lossy = watched(kms as Provider, {
    after: (method, [threadId]) => {
      if (method === 'createDekForThread' && threadId === 't' && hasThread) throw new KmsError('INTERNAL', 'the answer is lost');
    },
  });
  let hasThread = false;
  const threads = await opened(t, { kms: lossy, store });
  await threads.createThread({ threadId: 't' });
  hasThread = true;
  t.is((await rotated(threads, 't')).state, 'failed');
  t.is((await kms.listKeys({ threadId: 't' })).keys.length, 2);
  await threads.purge('t');
  for (const { state } of (await kms.listKeys({ threadId: 't' })).keys) t.is(state, 'destroyed');
  t.deepEqual([...(await entriesOf(store)).keys()], []);
});

test('a job that is begun as its thread is purged is not there afterwards', async (t) => {
  const { kms, store, threads } = await ground(t);
  await threads.createThread({ threadId: 't' });
  await threads.append('t', { body: 'body' });
  let isPurged = false;
  const slow = watched(store, {
    before: async (method, args) => {
      if (isPurged || method !== 'commit' || !JSON.stringify(args).includes('"job:busy:t"')) return;
      isPurged = true;
      await threads.purge('t');
    },
  });
  const other = await opened(t, { kms, store: slow });
  await t.throwsAsync(other.rotateThreadDek('t'), { code: 'NOT_FOUND' });
  t.true(isPurged);
  t.deepEqual([...(await entriesOf(store)).keys()], []);
});

test('the versions of a message go with its thread, too, when the message itself is damaged', async (t) => {
  const store = openMemoryThreadStore();
  const threads = await opened(t, { store });
  await threads.createThread({ threadId: 'goner' });
  const { messageId } = await threads.append('goner', { body: 'secret in plain' });
  await threads.edit('goner', messageId, 'edited');
  const key = `thread:goner:msg:${messageId.slice(4)}`;
  await store.commit([{ expect: [], put: [{ key, value: Buffer.from('{"id":') }], remove: [] }]);
  await threads.purge('goner');
  t.deepEqual([...(await entriesOf(store)).keys()], []);
});
