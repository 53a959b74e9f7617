import test from 'ava';
import { KmsError } from '../../dist/errors.js';
import type { Provider } from '../../dist/provider.js';
import { openMemoryThreadStore } from '../../dist/threads/memory-store.js';
import type { ThreadStore } from '../../dist/threads/thread-store.js';
import { openThreads, type Threads } from '../../dist/threads/threads.js';
import {
  allVersions,
  embedded,
  encrypted,
  entriesOf,
  ground,
  Mortality,
  opened,
  put,
  stateOf,
  watched,
} from './threads-ground.js';

async function keysOf(kms: Provider, threadId: string): Promise<Map<string, string>> {
  const { keys } = await kms.listKeys({ threadId, limit: 1_000 });
  return new Map(keys.map(({ keyId, state }) => [keyId, state]));
}

/** As if other processes had it, too. */
const shared = (store: ThreadStore) => watched(store, {}, { isShared: true });

const turn = () => new Promise<void>((resolve) => setTimeout(resolve, 1));

test('however many ask for a thread at once, in one process or several, it has one key', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  const several = await Promise.all(
    [1, 2, 3].map(() => opened(t, { kms: watched(kms, { before: turn }), store: shared(store) })),
  );
  const made = await Promise.all(Array.from({ length: 60 }, (_, i) => several[i % 3]?.ensureThread('t')));
  t.is(new Set(made.map((thread) => thread?.keyId)).size, 1);
  t.is((await keysOf(kms, 't')).size, 1);
  t.deepEqual([...(await entriesOf(store)).keys()].sort(), ['kms:map:thread:t', 'thread:t:meta']);
});

test('one of those who create a thread at once has made it, and the others are told', async (t) => {
  const { kms, threads } = await ground(t);
  const results = await Promise.allSettled(Array.from({ length: 5 }, () => threads.createThread({ threadId: 't' })));
  t.is(results.filter(({ status }) => status === 'fulfilled').length, 1);
  for (const result of results) if (result.status === 'rejected') t.is(result.reason.code, 'CONFLICT');
  t.is((await keysOf(kms, 't')).size, 1);
});

test('a maker that dies at any step leaves no key that is neither taken nor destroyed', async (t) => {
  const kms = await embedded(t);
  const whole = new Mortality();
  await (await openThreads({ kms: whole.of(kms as Provider), store: whole.of(openMemoryThreadStore()) })).createThread({
    threadId: 'whole',
  });
  t.true(whole.calls > 4);
  for (const when of ['before', 'after'] as const) {
    for (let at = 1; at <= whole.calls; at += 1) {
      for (const how of ['start', 'ensure', 'both'] as const) {
        const threadId = `${when}-${at}-${how}`;
        const store = openMemoryThreadStore();
        const death = new Mortality(at, when);
        const first = async () => {
          const dying = await openThreads({ kms: death.of(kms as Provider), store: death.of(store) });
          await dying.createThread({ threadId });
        };
        await t.throwsAsync(first(), { code: 'STORE_UNAVAILABLE' });
        const next = await openThreads({ kms, store });
        if (how !== 'start') await next.ensureThread(threadId);
        if (how === 'both') await (await openThreads({ kms, store })).ensureThread(threadId);
        const active = [...(await keysOf(kms, threadId))].filter(([, state]) => state === 'active').map(([keyId]) => keyId);
        const thread = await next.thread(threadId);
        t.deepEqual(active, thread === undefined ? [] : [thread.keyId as string], threadId);
        t.is((await entriesOf(store)).has(`kms:provision:thread:${threadId}`), false, threadId);
        if (thread !== undefined) t.is((await next.append(threadId, { body: 'works' })).body, 'works');
      }
    }
  }
});

test('in a shared store, who is taken for dead does not destroy the key that another has taken over from him', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  let now = Date.now();
  let wake = () => {};
  const asleep = new Promise<void>((resolve) => {
    wake = resolve;
  });
  let hasMade = () => {};
  const made = new Promise<void>((resolve) => {
    hasMade = resolve;
  });
  // It makes the key, and sleeps before it hears of it.
  const slow = watched(kms as Provider, {
    after: async (method) => {
      if (method !== 'createDekForThread') return;
      hasMade();
      await asleep;
    },
  });
  const first = await opened(t, { kms: slow, store: shared(store) });
  const second = await opened(t, { kms, store: shared(store), now: () => now });
  const early = first.ensureThread('t');
  await made;
  now += 60_000;
  const { keyId } = await second.ensureThread('t');
  await second.append('t', { body: 'kept' });
  wake();
  t.is((await early).keyId, keyId);
  t.deepEqual([...(await keysOf(kms, 't'))], [[keyId as string, 'active']]);
  t.is((await second.list('t')).messages[0]?.body, 'kept');
});

test('in a shared store, a key that comes too late for the thread is destroyed by who made it', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  let now = Date.now();
  let isAsked = () => {};
  const asked = new Promise<void>((resolve) => {
    isAsked = resolve;
  });
  let wake = () => {};
  const asleep = new Promise<void>((resolve) => {
    wake = resolve;
  });
  const slow = watched(kms as Provider, {
    before: async (method) => {
      if (method !== 'createDekForThread') return;
      isAsked();
      await asleep;
    },
  });
  const first = await opened(t, { kms: slow, store: shared(store) });
  const second = await opened(t, { kms, store: shared(store), now: () => now });
  const early = first.ensureThread('t');
  await asked;
  now += 60_000;
  const { keyId } = await second.ensureThread('t');
  wake();
  t.is((await early).keyId, keyId);
  const keys = await keysOf(kms, 't');
  t.is(keys.get(keyId as string), 'active');
  t.deepEqual([...keys.values()].sort(), ['active', 'destroyed']);
});

test('a start does not destroy what somebody else is making in a shared store', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  const slow = watched(kms as Provider, {
    after: async (method) => {
      if (method === 'createDekForThread') await openThreads({ kms, store: shared(store) });
    },
  });
  const first = await opened(t, { kms: slow, store: shared(store) });
  const { keyId } = await first.createThread({ threadId: 't' });
  t.is(await stateOf(kms, keyId), 'active');
});

test('a key of a thread of the same name that is older than the wish for one is another application\u2019s, and is reported', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  const { keyId } = await kms.createDekForThread('t');
  const later = new Date(Date.now() + 60_000).toISOString();
  await put(store, { 'kms:provision:thread:t': JSON.stringify({ owner: 'dead', at: Date.now(), since: later }) });
  const threads = await opened(t, { kms, store });
  t.is(await stateOf(kms, keyId), 'active');
  const { orphans } = await threads.recover();
  t.deepEqual(orphans, { adopted: [], destroyed: [], unknown: ['t'] });
});

test('what a start has found and destroyed is reported', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  const death = new Mortality(2, 'after');
  const dying = await openThreads({ kms: watched(kms as Provider, {}), store });
  const lost = watched(kms as Provider, {
    after: (method) => {
      if (method === 'createDekForThread') throw new KmsError('DEADLINE_EXCEEDED');
    },
  });
  t.is(death.calls, 0);
  await dying.close();
  const unlucky = await openThreads({ kms: lost, store });
  await t.throwsAsync(unlucky.createThread({ threadId: 't' }), { code: 'DEADLINE_EXCEEDED' });
  const [orphan] = (await keysOf(kms, 't')).keys();
  const next = await openThreads({ kms, store });
  const { orphans } = await next.recover();
  t.deepEqual(orphans.destroyed, [orphan as string]);
  t.is(await stateOf(kms, orphan as string), 'destroyed');
});

test('an answer that was lost does not lose the key: who asks again gets it', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  let isLost = true;
  const lossy = watched(kms as Provider, {
    after: (method) => {
      if (method === 'createDekForThread' && isLost) throw new KmsError('DEADLINE_EXCEEDED');
    },
  });
  // Nor has he to wait until he counts as dead himself.
  const now = Date.now();
  const threads = await opened(t, { kms: lossy, store: shared(store), now: () => now });
  await t.throwsAsync(threads.ensureThread('t'), { code: 'DEADLINE_EXCEEDED' });
  isLost = false;
  const { keyId } = await threads.ensureThread('t');
  t.deepEqual([...(await keysOf(kms, 't')).keys()], [keyId as string]);
});

test('who may not list keys makes threads, and is told where a key may be left', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  await put(store, { 'kms:provision:thread:t': JSON.stringify({ owner: 'dead', at: 0, since: new Date(0).toISOString() }) });
  const narrow = watched(kms as Provider, {
    before: (method) => {
      if (method === 'listKeys') throw new KmsError('PERMISSION_DENIED');
    },
  });
  const threads = await openThreads({ kms: narrow, store });
  t.deepEqual((await threads.recover()).orphans.unknown, ['t']);
  t.truthy((await threads.ensureThread('t')).keyId);
});

test('without a key service, what a maker has left is reported, and stays for a start that has one', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  await put(store, { 'kms:provision:thread:t': JSON.stringify({ owner: 'dead', at: 0, since: new Date(0).toISOString() }) });
  const { keyId } = await kms.createDekForThread('t');
  const plain = await openThreads({ store });
  t.deepEqual((await plain.recover()).orphans.unknown.slice(0, 1), ['t']);
  await plain.createThread({ threadId: 't' });
  await plain.append('t', { body: 'text' });
  const threads = await opened(t, { kms, store });
  t.is(await stateOf(kms, keyId), 'destroyed');
  t.is((await encrypted(threads, 't')).state, 'done');
  t.is(
    (await opened(t, { kms, store })) && (await stateOf(kms, ((await threads.thread('t')) as { keyId: string }).keyId)),
    'active',
  );
});

test('a name that would stand among the messages of another thread is refused', async (t) => {
  const { threads } = await ground(t);
  for (const threadId of ['a:msg:1', 'a:msg', 'a:msg:x', '', 'ä', 'x'.repeat(257)]) {
    await t.throwsAsync(threads.createThread({ threadId }), { code: 'INVALID_ARGUMENT' });
  }
  for (const threadId of ['a', 'a:meta', 'a:b', 'a:msgs', 'msg:a']) await threads.createThread({ threadId });
  for (const threadId of ['a', 'a:meta', 'a:b', 'a:msgs', 'msg:a']) {
    await threads.append(threadId, { body: threadId });
    t.deepEqual(
      (await threads.list(threadId, { limit: 1 })).messages.map(({ body }) => body),
      [threadId],
    );
  }
});

test('messages of two threads that two processes gave one id have each their own versions', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  // A moment that both see.
  const now = () => 1_700_000_000_000;
  const [one, two] = await Promise.all([1, 2].map(() => opened(t, { kms, store: shared(store), now })));
  await one?.createThread({ threadId: 'one' });
  await two?.createThread({ threadId: 'two' });
  const first = await one?.append('one', { body: 'one, first' });
  const other = await two?.append('two', { body: 'two, first' });
  const messageId = first?.messageId as string;
  t.is(other?.messageId, messageId);
  await one?.edit('one', messageId, 'one, second');
  await two?.edit('two', messageId, 'two, second');
  const bodies = async (threadId: string) =>
    (await allVersions(one as Threads, threadId, messageId)).map(({ body, error }) => error ?? body);
  t.deepEqual(await bodies('one'), ['one, first']);
  t.deepEqual(await bodies('two'), ['two, first']);
  const job = await one?.rotateThreadDek('one');
  t.is((await one?.waitForJob(job?.jobId as string))?.state, 'done');
  t.deepEqual(await bodies('one'), ['one, first']);
  await one?.delete('one', messageId);
  t.deepEqual(await bodies('two'), ['two, first']);
  await one?.purge('one');
  t.deepEqual(await bodies('two'), ['two, first']);
});
