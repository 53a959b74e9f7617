import test from 'ava';
import { KmsError } from '../../dist/errors.js';
import type { Provider } from '../../dist/provider.js';
import { openMemoryThreadStore } from '../../dist/threads/memory-store.js';
import { openThreads } from '../../dist/threads/threads.js';
import { embedded, opened, put, rotated, stateOf, unreachable, watched } from './threads-ground.js';

const DAY = 24 * 3_600_000;

test('threads open while the key service is away: what it is needed for is reported, and ended by a later call', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  let now = Date.now();
  const threads = await openThreads({ kms, store, now: () => now });
  for (const threadId of ['a', 'b', 'c']) {
    await threads.createThread({ threadId });
    await threads.append(threadId, { body: 'body' });
  }
  const swept = await rotated(threads, 'a', { keepBackupsMs: DAY });
  const { jobId } = await threads.rotateThreadDek('b', { messagesPerSecond: 1 });
  await threads.close();
  const orphan = (await kms.createDekForThread('orphaned')).keyId;
  await put(store, {
    'kms:provision:thread:orphaned': JSON.stringify({ owner: 'dead', at: 0, since: new Date(now).toISOString() }),
  });
  now += 2 * DAY;
  let isAway = true;
  const away = unreachable(kms);
  const shaky = new Proxy(kms as Provider, {
    get: (_, name) => (isAway ? away : kms)[name as keyof Provider],
  });
  const bound = watched(kms as Provider, {
    before: async (method) => {
      if (isAway) await (shaky[method as 'health'] as () => Promise<unknown>)();
    },
  });
  const dying = new KmsError('STORE_UNAVAILABLE', 'cannot connect to the key service').message;
  const next = await opened(t, { kms: bound, store, now: () => now, wait: async (ms) => void setTimeout(() => {}, ms) });
  t.like(next.recovered, {
    purged: [],
    unpurged: [],
    unreaped: [{ threadId: 'orphaned', reason: dying }],
    unswept: [{ jobId: swept.jobId, reason: dying }],
    uncompacted: null,
    jobs: [jobId],
  });
  t.is((await next.thread('c'))?.threadId, 'c');
  await t.throwsAsync(next.sweepBackups(), { code: 'STORE_UNAVAILABLE' });
  t.is(await stateOf(kms, orphan), 'active');
  isAway = false;
  t.like(await next.recover(), { unreaped: [], unswept: [], orphans: { destroyed: [orphan], unknown: [] } });
  t.is(await stateOf(kms, orphan), 'destroyed');
  t.is(await stateOf(kms, swept.oldKeyIds[0] as string), 'destroyed');
  t.is((await next.waitForJob(jobId)).state, 'done');
});

test('a job is not done before its own key is destroyed, and does not wait for that of another', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  let now = Date.now();
  let stuck = '';
  const stubborn = watched(kms as Provider, {
    before: (method, [keyId]) => {
      if (method === 'destroyKey' && keyId === stuck) throw new KmsError('PERMISSION_DENIED', 'not yours');
    },
  });
  const threads = await opened(t, { kms: stubborn, store, now: () => now });
  for (const threadId of ['a', 'b']) {
    await threads.createThread({ threadId });
    await threads.append(threadId, { body: 'body' });
  }
  const first = await rotated(threads, 'a', { keepBackupsMs: DAY });
  stuck = first.oldKeyIds[0] as string;
  now += 2 * DAY;
  const second = await rotated(threads, 'b', { keepBackupsMs: 0 });
  t.is(second.state, 'done');
  t.is(await stateOf(kms, second.oldKeyIds[0] as string), 'destroyed');
  stuck = second.newKeyId as string;
  const third = await rotated(threads, 'b', { keepBackupsMs: 0 });
  t.is(third.state, 'failed');
  stuck = '';
  await threads.resumeJob(third.jobId);
  t.is((await threads.waitForJob(third.jobId)).state, 'done');
});

test('threads whose store fails do not open', async (t) => {
  const kms = await embedded(t);
  const broken = watched(openMemoryThreadStore(), {
    before: () => {
      throw new KmsError('STORE_UNAVAILABLE', 'no disk');
    },
  });
  await t.throwsAsync(openThreads({ kms, store: broken }), { code: 'STORE_UNAVAILABLE' });
});
