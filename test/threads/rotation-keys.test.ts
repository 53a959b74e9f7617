import test, { type ExecutionContext } from 'ava';
import { KmsError } from '../../dist/errors.js';
import type { Provider } from '../../dist/provider.js';
import { openMemoryThreadStore } from '../../dist/threads/memory-store.js';
import type { ThreadStore } from '../../dist/threads/thread-store.js';
import { openThreads, Threads } from '../../dist/threads/threads.js';
import { allMessages, embedded, entriesOf, Mortality, opened, put, rotated, watched } from './threads-ground.js';

const shared = (store: ThreadStore) => watched(store, {}, { isShared: true });

async function filled(kms: Provider, store: ThreadStore, threadId: string): Promise<void> {
  const threads = await openThreads({ kms, store });
  await threads.createThread({ threadId });
  for (let i = 0; i < 3; i += 1) await threads.append(threadId, { body: `body-${i}` });
  await threads.close();
}

async function isWhole(t: ExecutionContext, kms: Provider, store: ThreadStore, threads: Threads, threadId: string) {
  const { keyId } = (await threads.thread(threadId)) as { keyId: string };
  const { keys } = await kms.listKeys({ threadId });
  const active = keys.filter(({ state }) => state === 'active').map((key) => key.keyId);
  t.deepEqual(active, [keyId], threadId);
  t.false((await entriesOf(store)).has(`kms:provision:thread:${threadId}`), threadId);
  const bodies = (await allMessages(threads, threadId)).map(({ body, error }) => error ?? body);
  t.deepEqual(bodies, ['body-0', 'body-1', 'body-2'], threadId);
}

/** A provider that has something happen while it makes a key: before it is made, or before anybody hears of it. */
function meddling(kms: Provider, when: 'before' | 'after', work: () => Promise<void>): Provider {
  let isDone = false;
  const meddle = async (method: string) => {
    if (method !== 'createDekForThread' || isDone) return;
    isDone = true;
    await work();
  };
  return watched(kms, { [when]: meddle });
}

for (const when of ['before', 'after'] as const) {
  test(`a rotation that is cancelled while its key is made, ${when} that, leaves none that nothing names`, async (t) => {
    const kms = await embedded(t);
    const store = openMemoryThreadStore();
    await filled(kms, store, 't');
    let cancelled: Promise<unknown> = Promise.resolve();
    const provider = meddling(kms, when, async () => {
      const { jobs } = await threads.jobs();
      // It waits for the runner, which waits for us.
      cancelled = threads.cancelJob(jobs[0]?.jobId as string);
      while ((await threads.jobs()).jobs[0]?.state === 'running') await new Promise((resolve) => setTimeout(resolve, 1));
    });
    const threads: Threads = await opened(t, { kms: provider, store });
    const { jobId } = await threads.rotateThreadDek('t');
    t.is((await threads.waitForJob(jobId)).state, 'cancelled');
    await cancelled;
    await isWhole(t, kms, store, threads, 't');
    t.is((await rotated(threads, 't')).state, 'done');
    await isWhole(t, kms, store, threads, 't');
  });

  test(`whatever call a process dies at, ${when} it is made, when its rotation is cancelled as the key is made, the next start leaves none`, async (t) => {
    const kms = await embedded(t);
    const cancelling = async (threadId: string, at: number) => {
      const store = openMemoryThreadStore();
      await filled(kms, store, threadId);
      const other = new Threads({ kms, store: shared(store) });
      const provider = meddling(kms, 'after', async () => {
        await other.cancelJob((await other.jobs()).jobs[0]?.jobId as string);
      });
      const death = new Mortality(at, when);
      const dying = await openThreads({ kms: death.of(provider), store: death.of(store) });
      const job = await dying.rotateThreadDek(threadId, { keepBackupsMs: 0 }).catch(() => undefined);
      // Who is dead goes on asking whether he may yet write that down.
      let isOver = job === undefined;
      if (job !== undefined) {
        const end = () => {
          isOver = true;
        };
        dying.waitForJob(job.jobId).then(end, end);
      }
      while (!death.isDead && !isOver) await new Promise((resolve) => setTimeout(resolve, 1));
      await dying.close();
      return { store, calls: death.calls };
    };
    const { calls } = await cancelling('whole', 0);
    t.true(calls > 14);
    for (let at = calls - 12; at <= calls; at += 1) {
      const threadId = `${when}-${at}`;
      const { store } = await cancelling(threadId, at);
      const next = await openThreads({ kms, store });
      for (const { jobId } of (await next.jobs()).jobs) await next.waitForJob(jobId);
      await isWhole(t, kms, store, next, threadId);
      await next.close();
    }
  });

  test(`in a shared store, a job that is taken over while its key is made, ${when} that, has one key, and the other is destroyed`, async (t) => {
    const kms = await embedded(t);
    const store = openMemoryThreadStore();
    await filled(kms, store, 't');
    const second = await opened(t, { kms, store: shared(store), now: () => Date.now() + 60_000 });
    const provider = meddling(kms, when, async () => {
      const { jobId } = (await second.jobs()).jobs[0] as { jobId: string };
      const key = `job:entry:${jobId}`;
      // As if the first one had not been heard of for long.
      await put(store, { [key]: ((await entriesOf(store)).get(key) as string).replace(/"leaseUntil":\d+/, '"leaseUntil":0') });
      t.deepEqual((await second.recover()).jobs, [jobId]);
      t.is((await second.waitForJob(jobId)).state, 'done');
    });
    const first = await opened(t, { kms: provider, store: shared(store) });
    const { jobId } = await first.rotateThreadDek('t');
    await first.waitForJob(jobId);
    await first.close();
    await isWhole(t, kms, store, second, 't');
  });
}

test('a key whose making was not answered is taken by the next attempt, and by a thread of the name if there is none', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  await filled(kms, store, 't');
  const lossy = meddling(kms, 'after', async () => {
    throw new KmsError('DEADLINE_EXCEEDED');
  });
  const threads = await opened(t, { kms: lossy, store, wait: async () => {} });
  t.is((await rotated(threads, 't')).state, 'done');
  t.is((await kms.listKeys({ threadId: 't' })).keys.length, 2);
  await isWhole(t, kms, store, threads, 't');
});

test('a thread that is purged while a rotation makes a key for it leaves no key', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  await filled(kms, store, 't');
  const provider = meddling(kms, 'after', async () => threads.purge('t'));
  const threads: Threads = await opened(t, { kms: provider, store });
  const { jobId } = await threads.rotateThreadDek('t');
  await t.throwsAsync(threads.waitForJob(jobId), { code: 'NOT_FOUND' });
  for (const { state } of (await kms.listKeys({ threadId: 't' })).keys) t.is(state, 'destroyed');
  t.deepEqual([...(await entriesOf(store)).keys()], []);
});

test('in a shared store, who is taken for dead as its key was made does not destroy it: who goes on with the job has taken it', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  await filled(kms, store, 't');
  const second = await opened(t, { kms, store: shared(store), now: () => Date.now() + 60_000 });
  const provider = meddling(kms, 'after', async () => {
    const { jobId } = (await second.jobs()).jobs[0] as { jobId: string };
    await second.pauseJob(jobId);
    await second.resumeJob(jobId);
    t.is((await second.waitForJob(jobId)).state, 'done');
  });
  const first = await opened(t, { kms: provider, store: shared(store) });
  const { jobId } = await first.rotateThreadDek('t');
  await first.waitForJob(jobId);
  await first.close();
  t.is((await kms.listKeys({ threadId: 't' })).keys.length, 2);
  await isWhole(t, kms, store, second, 't');
});
