import test from 'ava';
import { KmsError } from '../../dist/errors.js';
import { KEPT_JOBS_MS, KEPT_JOBS_PER_THREAD, MAX_JOB_PAGES } from '../../dist/limits.js';
import type { Provider } from '../../dist/provider.js';
import { openMemoryThreadStore } from '../../dist/threads/memory-store.js';
import type { Threads } from '../../dist/threads/threads.js';
import { embedded, entriesOf, ground, opened, put, rotated, watched } from './threads-ground.js';

const idsOf = async (threads: Threads) => (await threads.jobs({ limit: 1_000 })).jobs.map(({ jobId }) => jobId);

test('jobs are listed page by page, in the order in which they began or the other way round', async (t) => {
  const { threads } = await ground(t);
  await threads.createThread({ threadId: 't' });
  const made: string[] = [];
  for (let i = 0; i < 7; i += 1) made.push((await rotated(threads, 't', { keepBackupsMs: 0 })).jobId);
  for (const reverse of [false, true]) {
    const found: string[] = [];
    const sizes: number[] = [];
    for (let cursor: string | null | undefined; cursor !== null; ) {
      const page = await threads.jobs({ limit: 3, reverse, ...(cursor === undefined ? {} : { cursor }) });
      found.push(...page.jobs.map(({ jobId }) => jobId));
      sizes.push(page.jobs.length);
      cursor = page.next;
    }
    t.deepEqual(found, reverse ? made.toReversed() : made);
    t.deepEqual(sizes, [3, 3, 1]);
  }
  t.is((await threads.jobs({ limit: 7 })).next, null, 'a full page may be the last one');
  for (const query of [{ limit: 0 }, { limit: 1_001 }, { limit: 1.5 }, { cursor: 'job_1' }]) {
    await t.throwsAsync(threads.jobs(query), { code: 'INVALID_ARGUMENT' });
  }
});

test('of jobs that ended long ago the newest of each thread stay, those with backups, and those that are not over', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  let now = Date.now();
  const threads = await opened(t, { kms, store, now: () => now });
  for (const threadId of ['a', 'b']) {
    await threads.createThread({ threadId });
    for (let i = 0; i < 3; i += 1) await threads.append(threadId, { body: i });
  }
  const kept = await rotated(threads, 'a', { keepBackupsMs: 2 * KEPT_JOBS_MS });
  const ended: string[] = [];
  for (let i = 0; i < KEPT_JOBS_PER_THREAD + 3; i += 1) ended.push((await rotated(threads, 'a', { keepBackupsMs: 0 })).jobId);
  const { jobId: other } = await rotated(threads, 'b', { keepBackupsMs: 0 });
  const { jobId: paused } = await threads.rotateThreadDek('b', { messagesPerSecond: 1 });
  await threads.pauseJob(paused);
  now += KEPT_JOBS_MS - 60_000;
  await threads.sweepBackups();
  t.is((await idsOf(threads)).length, ended.length + 3, 'none is old enough');
  now += 120_000;
  await threads.sweepBackups();
  t.deepEqual(await idsOf(threads), [kept.jobId, ...ended.slice(-KEPT_JOBS_PER_THREAD), other, paused]);
  await t.throwsAsync(threads.job(ended[0] as string), { code: 'NOT_FOUND' });
  // Once its backups are gone, so is it; a start does that, too.
  now += 2 * KEPT_JOBS_MS;
  const next = await opened(t, { kms, store, now: () => now });
  t.deepEqual(await idsOf(next), [...ended.slice(-KEPT_JOBS_PER_THREAD), other, paused]);
  t.is((await entriesOf(store)).has(`job:entry:${ended[0]}`), false);
});

test('more jobs than are read in one go are pruned, and adopted', async (t) => {
  const { store, threads } = await ground(t);
  await threads.createThread({ threadId: 't' });
  const { jobId } = await rotated(threads, 't', { keepBackupsMs: 0 });
  const record = JSON.parse((await entriesOf(store)).get(`job:entry:${jobId}`) as string);
  const finishedAt = new Date(Date.now() - 2 * KEPT_JOBS_MS).toISOString();
  const put = Array.from({ length: 1_203 }, (_, i) => {
    const id = `job_${String(i).padStart(32, '0')}`;
    return { key: `job:entry:${id}`, value: Buffer.from(JSON.stringify({ ...record, jobId: id, finishedAt })) };
  });
  await store.commit([{ expect: [], put, remove: [] }]);
  await threads.recover();
  t.is((await idsOf(threads)).length, KEPT_JOBS_PER_THREAD);
});

test('a page of jobs ends with its bytes as well, and leads on', async (t) => {
  const { store, threads } = await ground(t);
  await threads.createThread({ threadId: 't' });
  const made: string[] = [];
  for (let i = 0; i < 5; i += 1) {
    const { jobId } = await rotated(threads, 't', { keepBackupsMs: 0 });
    made.push(jobId);
    const key = `job:entry:${jobId}`;
    const text = (await entriesOf(store)).get(key) as string;
    await put(store, { [key]: text.replace('"error":null', `"error":"${'e'.repeat(3 * 1024 * 1024)}"`) });
  }
  const found: string[] = [];
  const sizes: number[] = [];
  for (let cursor: string | null | undefined; cursor !== null; ) {
    const page = await threads.jobs(cursor === undefined ? {} : { cursor });
    found.push(...page.jobs.map(({ jobId }) => jobId));
    sizes.push(page.jobs.length);
    cursor = page.next;
  }
  t.deepEqual(found, made);
  t.deepEqual(sizes, [3, 2]);
});

test('however many jobs there are, only so many have a page at once, and all come to their end', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  const first = await opened(t, { kms, store });
  const ids = Array.from({ length: 3 * MAX_JOB_PAGES }, (_, i) => `t${i}`);
  for (const threadId of ids) {
    await first.createThread({ threadId });
    for (let i = 0; i < 5; i += 1) await first.append(threadId, { body: `${threadId}-${i}` });
  }
  let atOnce = 0;
  let most = 0;
  let failures = 20;
  const counting = watched(kms as Provider, {
    before: async (method) => {
      if (method !== 'decryptMany') return;
      atOnce += 1;
      most = Math.max(most, atOnce);
      // Long enough for all the others to come as far, if they may.
      await new Promise((resolve) => setTimeout(resolve, 20));
      atOnce -= 1;
      failures -= 1;
      // A page that fails is left as well.
      if (failures > 0) throw new KmsError('BUSY');
    },
  });
  const threads = await opened(t, { kms: counting, store, wait: async () => {} });
  const jobs = await Promise.all(ids.map((threadId) => threads.rotateThreadDek(threadId, { keepBackupsMs: 0 })));
  for (const { jobId } of jobs) t.is((await threads.waitForJob(jobId)).state, 'done');
  t.is(most, MAX_JOB_PAGES);
});
