import test from 'ava';
import type { Provider } from '../../dist/provider.js';
import { openMemoryThreadStore } from '../../dist/threads/memory-store.js';
import type { ThreadStore } from '../../dist/threads/thread-store.js';
import { openThreads, Threads } from '../../dist/threads/threads.js';
import { allMessages, embedded, entriesOf, keysInUse, Mortality, rotated, stateOf } from './threads-ground.js';

const DAY = 24 * 3_600_000;
const BODIES = ['edited', 'secret-1', 'secret-2'];

/** A thread that was rotated, with a version, and one that was edited after the job. */
async function rotatedThread(kms: Provider, store: ThreadStore, threadId: string) {
  const threads = await openThreads({ kms, store });
  await threads.createThread({ threadId });
  const ids: string[] = [];
  for (let i = 0; i < 3; i += 1) ids.push((await threads.append(threadId, { body: `secret-${i}` })).messageId);
  await threads.edit(threadId, ids[1] as string, 'secret-1');
  const job = await rotated(threads, threadId, { keepBackupsMs: DAY });
  await threads.edit(threadId, ids[0] as string, 'edited');
  await threads.close();
  return { jobId: job.jobId, oldKey: job.oldKeyIds[0] as string };
}

const bodiesOf = async (threads: Threads, threadId: string) =>
  (await allMessages(threads, threadId)).map(({ body, error }) => error ?? body);

const leftIn = async (store: ThreadStore) =>
  [...(await entriesOf(store)).keys()].filter((key) => /^(backup|kms:backups):/.test(key));

for (const when of ['before', 'after'] as const) {
  test(`a restore that dies at any call, ${when} it is made, is done again, and all reads as it did`, async (t) => {
    const kms = await embedded(t);
    const restoring = async (threadId: string, at: number) => {
      const store = openMemoryThreadStore();
      const { jobId, oldKey } = await rotatedThread(kms, store, threadId);
      const death = new Mortality(at, when);
      const dying = new Threads({ kms: death.of(kms as Provider), store: death.of(store) });
      await dying.restoreBackup(jobId).catch(() => {});
      return { store, jobId, oldKey, calls: death.calls };
    };
    const { calls } = await restoring('whole', 0);
    t.true(calls > 6);
    for (let at = 1; at <= calls; at += 1) {
      const threadId = `${when}-${at}`;
      const { store, jobId, oldKey } = await restoring(threadId, at);
      // Its time is over: but what is being put back, or is put back, does not lose its key.
      const next = await openThreads({ kms, store, now: () => Date.now() + (at > 4 ? 2 * DAY : 0) });
      t.deepEqual(await bodiesOf(next, threadId), BODIES, threadId);
      await next.restoreBackup(jobId).catch((error) => t.is(error.code, 'NOT_FOUND'));
      t.deepEqual(await bodiesOf(next, threadId), BODIES, threadId);
      t.true((await keysInUse(store)).has(oldKey), threadId);
      t.is(await stateOf(kms, oldKey), 'active', threadId);
      t.deepEqual(await leftIn(store), [], threadId);
      const job = await rotated(next, threadId, { keepBackupsMs: 0 });
      t.deepEqual([...(await keysInUse(store))], [job.newKeyId as string], threadId);
      t.deepEqual(await bodiesOf(next, threadId), BODIES, threadId);
      await next.close();
    }
  });

  test(`backups that go, and their key, when a process dies at any call, ${when} it is made, are gone after the next start`, async (t) => {
    const kms = await embedded(t);
    const now = () => Date.now() + 2 * DAY;
    const sweeping = async (threadId: string, at: number) => {
      const store = openMemoryThreadStore();
      const { jobId, oldKey } = await rotatedThread(kms, store, threadId);
      const death = new Mortality(at, when);
      await openThreads({ kms: death.of(kms as Provider), store: death.of(store), now }).catch(() => {});
      return { store, jobId, oldKey, calls: death.calls };
    };
    const { calls } = await sweeping('whole', 0);
    t.true(calls > 8);
    for (let at = 1; at <= calls; at += 1) {
      const threadId = `${when}-${at}`;
      const { store, jobId, oldKey } = await sweeping(threadId, at);
      const next = await openThreads({ kms, store, now });
      t.deepEqual(await leftIn(store), [], threadId);
      t.is(await stateOf(kms, oldKey), 'destroyed', threadId);
      t.false(((await entriesOf(store)).get(`thread:${threadId}:meta`) as string).includes(oldKey), threadId);
      await t.throwsAsync(next.restoreBackup(jobId), { code: 'NOT_FOUND' });
      t.deepEqual(await bodiesOf(next, threadId), BODIES, threadId);
      await next.close();
    }
  });
}
