import test from 'ava';
import { KmsError } from '../../dist/errors.js';
import type { Provider } from '../../dist/provider.js';
import { openMemoryThreadStore } from '../../dist/threads/memory-store.js';
import type { ThreadStore } from '../../dist/threads/thread-store.js';
import { openThreads } from '../../dist/threads/threads.js';
import { embedded, entriesOf, ground, keysInUse, opened, put, stateOf, watched } from './threads-ground.js';

/** Pages of four messages, at once. */
const PAGED = { messagesPerSecond: 4 };
const wait = async () => {};

async function jobEntry(store: ThreadStore): Promise<[string, { phase: string; cursor: string; state: string; jobId: string }]> {
  const [key, text] = [...(await entriesOf(store))].find(([name]) => name.startsWith('job:entry:')) as [string, string];
  return [key, JSON.parse(text)];
}

test('a job that is paused while it verifies does not forget, resumed, what it could not move', async (t) => {
  const { kms, store, threads } = await ground(t);
  await threads.ensureThread('t');
  for (let i = 0; i < 12; i += 1) await threads.append('t', { body: `secret-${i}` });
  const { keyId: oldKey } = (await threads.thread('t')) as { keyId: string };
  const { messageId } = (await threads.list('t')).messages[0] as { messageId: string };
  const key = `thread:t:msg:${messageId.slice(4)}`;
  const whole = (await entriesOf(store)).get(key) as string;
  await put(store, { [key]: whole.replace(/"v":"..../, '"v":"AAAA') });
  let isPaused = false;
  const pausing = watched(store, {
    after: async (method) => {
      if (isPaused || method !== 'commit') return;
      const [name, job] = await jobEntry(store);
      if (job.phase !== 'verify' || job.cursor === '') return;
      isPaused = true;
      await put(store, { [name]: JSON.stringify({ ...job, state: 'paused' }) });
    },
  });
  const working = await opened(t, { kms, store: pausing, wait });
  const { jobId } = await working.rotateThreadDek('t', PAGED);
  t.is((await working.waitForJob(jobId)).state, 'paused');
  await working.resumeJob(jobId);
  const job = await working.waitForJob(jobId);
  t.is(job.state, 'blocked');
  t.deepEqual(job.blockedBy, [{ messageId, reason: 'decryption failed' }]);
  t.is(await stateOf(kms, oldKey), 'active');
});

test('a race that was lost before an interruption of the last walk is found by another one', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  const before = await openThreads({ kms, store });
  await before.ensureThread('t');
  for (let i = 0; i < 12; i += 1) await before.append('t', { body: `secret-${i}` });
  await before.close();
  const [key, whole] = [...(await entriesOf(store))].find(([name]) => name.startsWith('thread:t:msg:')) as [string, string];
  let isPutBack = false;
  let isRaced = false;
  let isStruck = false;
  const racing = watched(store, {
    before: async (method, [units]) => {
      if (
        isPutBack &&
        !isRaced &&
        method === 'commit' &&
        (units as Array<{ put: Array<{ key: string }> }>)[0]?.put[0]?.key === key
      ) {
        isRaced = true;
        await put(store, { [key]: `${whole} ` });
      }
      if (!isRaced || isStruck || method !== 'range' || (await jobEntry(store))[1].cursor === '') return;
      isStruck = true;
      throw new KmsError('STORE_UNAVAILABLE', 'struck by the test');
    },
    after: async (method) => {
      if (isPutBack || method !== 'commit' || (await jobEntry(store))[1].phase !== 'verify') return;
      isPutBack = true;
      await put(store, { [key]: whole });
    },
  });
  const working = await opened(t, { kms, store: racing, wait });
  const { jobId } = await working.rotateThreadDek('t', PAGED);
  const job = await working.waitForJob(jobId);
  t.true(isStruck);
  t.is(job.state, 'done');
  t.deepEqual([...(await keysInUse(store))], [job.newKeyId as string]);
});

test('a job that is cancelled while it retires keys leaves backups that can be read once they are put back', async (t) => {
  const { kms, store, threads } = await ground(t);
  await threads.ensureThread('t');
  await threads.append('t', { body: 'secret' });
  const cancelling = watched(kms as Provider, {
    after: async (method) => {
      if (method !== 'disableKey') return;
      const [, { jobId }] = await jobEntry(store);
      await threads.cancelJob(jobId);
    },
  });
  const working = await opened(t, { kms: cancelling, store });
  const { jobId } = await working.rotateThreadDek('t');
  t.is((await working.waitForJob(jobId)).state, 'cancelled');
  t.deepEqual(await working.restoreBackup(jobId), { restored: 1, changed: 0 });
  t.deepEqual(
    (await working.list('t')).messages.map(({ body, error }) => error ?? body),
    ['secret'],
  );
});

test('why a message is damaged tells nothing of its text', async (t) => {
  const { store, threads } = await ground(t);
  await threads.ensureThread('t');
  const { messageId } = await threads.append('t', { body: 'secret' });
  await put(store, { [`thread:t:msg:${messageId.slice(4)}`]: '{"body":hunter2}' });
  const { error } = (await threads.list('t')).messages[0] as { error: KmsError };
  t.is((error.cause as Error).message, 'it is not JSON');
  const { jobId } = await threads.rotateThreadDek('t');
  const { blockedBy } = await threads.waitForJob(jobId);
  t.deepEqual(
    blockedBy.map(({ reason }) => reason),
    ['damaged: it is not JSON'],
  );
});
