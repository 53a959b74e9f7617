import test from 'ava';
import type { Provider } from '../../dist/provider.js';
import type { JobStatus } from '../../dist/threads/jobs/job.js';
import { openMemoryThreadStore } from '../../dist/threads/memory-store.js';
import type { Entry, Unit } from '../../dist/threads/thread-store.js';
import { openThreads, type Threads } from '../../dist/threads/threads.js';
import {
  allMessages,
  counted,
  embedded,
  encrypted,
  entriesOf,
  ground,
  keysInUse,
  opened,
  put,
  rotated,
  stateOf,
  watched,
} from './threads-ground.js';

async function filled(threads: Threads, count: number): Promise<string[]> {
  await threads.createThread({ threadId: 't' });
  const bodies = Array.from({ length: count }, (_, i) => `body-${i}`);
  for (const body of bodies) await threads.append('t', { body });
  return bodies;
}

const bodiesOf = async (threads: Threads) => (await allMessages(threads, 't')).map(({ body, error }) => error ?? body);

function puts([units]: readonly unknown[]): Entry[] {
  return (units as Unit[]).flatMap(({ put }) => put);
}

/** Until the job has rewritten something. */
async function underWay(threads: Threads, jobId: string): Promise<void> {
  while ((await threads.job(jobId)).moved === 0) await new Promise((resolve) => setTimeout(resolve, 5));
}

test('a job that is paused leaves a mixture that is read and written, and goes on where it was', async (t) => {
  const { kms, store, threads } = await ground(t);
  const bodies = await filled(threads, 50);
  const { keyId: oldKey } = (await threads.thread('t')) as { keyId: string };
  const { jobId } = await threads.rotateThreadDek('t', { messagesPerSecond: 2 });
  await underWay(threads, jobId);
  t.is((await threads.pauseJob(jobId)).state, 'paused');
  t.is((await keysInUse(store)).size, 2);
  t.deepEqual(await bodiesOf(threads), bodies);
  t.is(await stateOf(kms, oldKey), 'active');
  await t.throwsAsync(threads.pauseJob(jobId), { code: 'CONFLICT' });
  await t.throwsAsync(threads.rotateThreadDek('t'), { code: 'CONFLICT' });
  await threads.append('t', { body: 'new' });
  const before = (await threads.job(jobId)).moved;
  t.is((await threads.resumeJob(jobId)).state, 'running');
  while ((await threads.job(jobId)).moved === before) await new Promise((resolve) => setTimeout(resolve, 5));
  await threads.cancelJob(jobId);
  t.is((await rotated(threads, 't')).state, 'done');
  t.deepEqual(await bodiesOf(threads), [...bodies, 'new']);
});

test('an order is not kept waiting by the pace of a job', async (t) => {
  let isGiven = () => {};
  const given = new Promise<void>((resolve) => {
    isGiven = resolve;
  });
  const store = watched(openMemoryThreadStore(), {
    after: (method, args) => {
      if (method === 'commit' && puts(args).some(({ value }) => Buffer.from(value).includes('"state":"paused"'))) isGiven();
    },
  });
  let order: Promise<JobStatus> | undefined;
  let slices = 0;
  // A second of it is many of these; in the first the order comes.
  const wait = async () => {
    slices += 1;
    const [job] = (await threads.jobs()).jobs;
    order ??= threads.pauseJob(job?.jobId as string);
    await given;
    await new Promise(setImmediate);
  };
  const threads: Threads = await opened(t, { kms: await embedded(t), store, wait });
  await filled(threads, 3);
  const { jobId } = await threads.rotateThreadDek('t', { messagesPerSecond: 1 });
  await threads.waitForJob(jobId);
  t.is((await order)?.state, 'paused');
  t.is((await order)?.moved, 1);
  t.is(slices, 1);
});

test('a job that is cancelled leaves a mixture that is read, and the next one finishes it', async (t) => {
  const { kms, store, threads } = await ground(t);
  const bodies = await filled(threads, 20);
  const { keyId: oldKey } = (await threads.thread('t')) as { keyId: string };
  const { jobId } = await threads.rotateThreadDek('t', { messagesPerSecond: 5 });
  await underWay(threads, jobId);
  const { keyId: middleKey } = (await threads.thread('t')) as { keyId: string };
  t.is((await threads.cancelJob(jobId)).state, 'cancelled');
  t.deepEqual(await bodiesOf(threads), bodies);
  t.is((await keysInUse(store)).size, 2);
  for (const keyId of [oldKey, middleKey]) t.is(await stateOf(kms, keyId), 'active');
  await t.throwsAsync(threads.resumeJob(jobId), { code: 'CONFLICT' });
  const next = await rotated(threads, 't');
  t.is(next.state, 'done');
  t.deepEqual([...(await keysInUse(store))], [next.newKeyId as string]);
  for (const keyId of [oldKey, middleKey]) t.is(await stateOf(kms, keyId), 'disabled');
  t.deepEqual(await bodiesOf(threads), bodies);
});

test('a job with a rate rewrites no more in one go than it may in a second', async (t) => {
  const kms = await embedded(t);
  const rewritten: number[] = [];
  const store = watched(openMemoryThreadStore(), {
    before: (method, [units]) => {
      if (method !== 'commit') return;
      const moves = (units as Unit[]).filter(({ put }) => put.some(({ key }) => key.startsWith('backup:')));
      if (moves.length > 0) rewritten.push(moves.length);
    },
  });
  const threads = await opened(t, { kms, store });
  await filled(threads, 60);
  t.is((await rotated(threads, 't', { messagesPerSecond: 40, concurrency: 16 })).state, 'done');
  t.deepEqual(rewritten, [40, 20]);
});

test('a forecast says what a job would do, and changes nothing', async (t) => {
  const { kms, store, threads } = await ground(t);
  await filled(threads, 7);
  const { messageId } = (await threads.list('t')).messages[2] as { messageId: string };
  await threads.edit('t', messageId, 'edited');
  const key = `thread:t:msg:${messageId.slice(4)}`;
  const before = await entriesOf(store);
  const { target, counts } = counted(kms);
  const looking = await opened(t, { kms: target, store });
  t.deepEqual(await looking.forecast('rotate', 't'), { threadId: 't', total: 8, toMove: 8, blockedBy: [] });
  t.deepEqual(await looking.forecast('encrypt-existing', 't'), { threadId: 't', total: 8, toMove: 0, blockedBy: [] });
  t.deepEqual(Object.keys(counts), ['decryptMany']);
  t.deepEqual(await entriesOf(store), before);
  await put(store, { [key]: (before.get(key) as string).replace(/"v":"..../, '"v":"AAAA') });
  const blocked = await threads.forecast('rotate', 't');
  t.is(blocked.toMove, 7);
  t.deepEqual(blocked.blockedBy, [{ messageId, reason: 'decryption failed' }]);
});

test('a message that cannot be read blocks the job, which moves all others, and ends once it is mended', async (t) => {
  const { kms, store, threads } = await ground(t);
  const bodies = await filled(threads, 12);
  const { keyId: oldKey } = (await threads.thread('t')) as { keyId: string };
  const { messageId } = (await threads.list('t')).messages[5] as { messageId: string };
  const key = `thread:t:msg:${messageId.slice(4)}`;
  const whole = (await entriesOf(store)).get(key) as string;
  await put(store, { [key]: whole.replace(/"v":"..../, '"v":"AAAA') });
  const job = await rotated(threads, 't');
  t.is(job.state, 'blocked');
  t.deepEqual(job.blockedBy, [{ messageId, reason: 'decryption failed' }]);
  t.is(job.moved, 11);
  t.is(await stateOf(kms, oldKey), 'active', 'its message may yet be mended');
  await threads.resumeJob(job.jobId);
  t.is((await threads.waitForJob(job.jobId)).state, 'blocked');
  await put(store, { [key]: whole });
  await threads.resumeJob(job.jobId);
  const done = await threads.waitForJob(job.jobId);
  t.is(done.state, 'done');
  t.deepEqual(done.blockedBy, []);
  t.deepEqual(await bodiesOf(threads), bodies);
  t.is(await stateOf(kms, oldKey), 'disabled');
  t.deepEqual([...(await keysInUse(store))], [done.newKeyId as string]);
});

test('a job whose thread is changed while its key is made does not make another', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  const threads = await openThreads({ kms, store });
  await filled(threads, 3);
  await threads.close();
  let isFirst = true;
  const meddling = watched(kms as Provider, {
    after: async (method) => {
      if (method !== 'createDekForThread' || !isFirst) return;
      isFirst = false;
      const meta = (await entriesOf(store)).get('thread:t:meta') as string;
      await put(store, { 'thread:t:meta': `${meta.slice(0, -1)},"touched":true}` });
    },
  });
  const next = await opened(t, { kms: meddling, store });
  const job = await rotated(next, 't');
  t.is(job.state, 'done');
  const keys = (await kms.listKeys({ threadId: 't' })).keys.map(({ keyId }) => keyId);
  t.deepEqual(keys.sort(), [...job.oldKeyIds, job.newKeyId as string].sort());
});

test('jobs are listed, found, and refused where they are none', async (t) => {
  const { store, threads } = await ground(t);
  await filled(threads, 2);
  const first = await rotated(threads, 't');
  const second = await encrypted(threads, 't');
  t.deepEqual((await threads.jobs()).jobs.map(({ jobId }) => jobId).sort(), [first.jobId, second.jobId].sort());
  t.is((await threads.job(first.jobId)).kind, 'rotate');
  t.is((await threads.job(first.jobId)).total, 2);
  await t.throwsAsync(threads.job('job_1'), { code: 'INVALID_ARGUMENT' });
  await t.throwsAsync(threads.job(`job_${'0'.repeat(32)}`), { code: 'NOT_FOUND' });
  await t.throwsAsync(threads.rotateThreadDek('absent'), { code: 'NOT_FOUND' });
  for (const options of [{ concurrency: 0 }, { messagesPerSecond: -1 }, { keepBackupsMs: 0.5 }]) {
    await t.throwsAsync(threads.rotateThreadDek('t', options), { code: 'INVALID_ARGUMENT' });
  }
  const plain = await opened(t, { store });
  await plain.createThread({ threadId: 'plain' });
  await t.throwsAsync(plain.rotateThreadDek('plain'), { code: 'CONFLICT' });
});

test('a reader whose listing spans the end of a rotation gets every message', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  const threads = await opened(t, { kms, store });
  const bodies = await filled(threads, 5);
  const { store: slow, end } = spanning(store, () => rotated(threads, 't', { keepBackupsMs: 0 }));
  const reader = await opened(t, { kms, store: slow });
  t.deepEqual(
    (await reader.list('t')).messages.map(({ body, error }) => error ?? body),
    bodies,
  );
  t.true(end());
});

/** A store where something happens between the reading of messages and all else. */
function spanning(store: ReturnType<typeof openMemoryThreadStore>, work: () => Promise<unknown>) {
  let isDone = false;
  const after = async (method: string, [query]: readonly unknown[]) => {
    if (method !== 'range' || isDone || !(query as { from: string }).from.includes(':msg:')) return;
    isDone = true;
    await work();
  };
  return { store: watched(store, { after }), end: () => isDone };
}
