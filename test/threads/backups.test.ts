import test from 'ava';
import { KmsError } from '../../dist/errors.js';
import type { Provider } from '../../dist/provider.js';
import { openMemoryThreadStore } from '../../dist/threads/memory-store.js';
import { openThreads, type Threads } from '../../dist/threads/threads.js';
import {
  allMessages,
  allVersions,
  embedded,
  entriesOf,
  ground,
  keysInUse,
  opened,
  rotated,
  stateOf,
  textOf,
  watched,
} from './threads-ground.js';

const DAY = 24 * 3_600_000;

async function filled(threads: Threads): Promise<string[]> {
  await threads.createThread({ threadId: 't' });
  const ids: string[] = [];
  for (let i = 0; i < 4; i += 1) ids.push((await threads.append('t', { body: `secret-${i}` })).messageId);
  await threads.edit('t', ids[1] as string, 'secret-edited');
  return ids;
}

const bodiesOf = async (threads: Threads) => (await allMessages(threads, 't')).map(({ body, error }) => error ?? body);
const backupsIn = async (store: ReturnType<typeof openMemoryThreadStore>) =>
  [...(await entriesOf(store)).keys()].filter((key) => key.startsWith('backup:'));

test('backups are ciphertext, and a restore puts them back where nobody has changed anything since', async (t) => {
  const { kms, store, threads } = await ground(t);
  const ids = await filled(threads);
  const before = await entriesOf(store);
  const job = await rotated(threads, 't');
  t.is((await backupsIn(store)).length, 5);
  t.false((await textOf(store)).includes('secret-'));
  t.is(await stateOf(kms, job.oldKeyIds[0] as string), 'disabled');
  await threads.edit('t', ids[0] as string, 'secret-later');
  await threads.delete('t', ids[3] as string);
  t.deepEqual(await threads.restoreBackup(job.jobId), { restored: 3, changed: 2 });
  const after = await entriesOf(store);
  for (const id of [ids[1], ids[2]]) t.is(after.get(`thread:t:msg:${id?.slice(4)}`), before.get(`thread:t:msg:${id?.slice(4)}`));
  t.is(await stateOf(kms, job.oldKeyIds[0] as string), 'active');
  t.deepEqual(await bodiesOf(threads), ['secret-later', 'secret-edited', 'secret-2', null]);
  t.deepEqual(
    (await allVersions(threads, 't', ids[1] as string)).map(({ body }) => body),
    ['secret-1'],
  );
  t.deepEqual(await backupsIn(store), []);
  await t.throwsAsync(threads.restoreBackup(job.jobId), { code: 'NOT_FOUND' });
  // What was put back is rotated as anything else.
  const next = await rotated(threads, 't');
  t.deepEqual([...(await keysInUse(store))], [next.newKeyId as string]);
  t.deepEqual(await bodiesOf(threads), ['secret-later', 'secret-edited', 'secret-2', null]);
});

test('backups go when their time is over, and the old key is destroyed with them', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  let now = Date.now();
  const open = () => opened(t, { kms, store, now: () => now });
  const threads = await open();
  await filled(threads);
  const job = await rotated(threads, 't', { keepBackupsMs: DAY });
  const [oldKey] = job.oldKeyIds as [string];
  now += DAY - 1;
  await open();
  t.is((await backupsIn(store)).length, 5);
  t.is(await stateOf(kms, oldKey), 'disabled');
  // Somebody who has looked at what is left under it does not keep it from going.
  await kms.enableKey(oldKey);
  now += 2;
  const next = await open();
  t.deepEqual(await backupsIn(store), []);
  t.is(await stateOf(kms, oldKey), 'destroyed');
  t.false(((await entriesOf(store)).get('thread:t:meta') as string).includes(oldKey));
  await t.throwsAsync(next.restoreBackup(job.jobId), { code: 'NOT_FOUND' });
  t.deepEqual(await bodiesOf(next), ['secret-0', 'secret-edited', 'secret-2', 'secret-3']);
});

test('with no time to be kept there are none, and the old key goes with the job', async (t) => {
  const { kms, store, threads } = await ground(t);
  await filled(threads);
  const job = await rotated(threads, 't', { keepBackupsMs: 0 });
  t.deepEqual(await backupsIn(store), []);
  t.is(await stateOf(kms, job.oldKeyIds[0] as string), 'destroyed');
  t.deepEqual(await bodiesOf(threads), ['secret-0', 'secret-edited', 'secret-2', 'secret-3']);
});

test('the backups of a job that was cancelled go, too, and can be put back before', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  let now = Date.now();
  const open = () => opened(t, { kms, store, now: () => now });
  const threads = await open();
  await filled(threads);
  const cancelled = async () => {
    const { jobId } = await threads.rotateThreadDek('t', { messagesPerSecond: 1, keepBackupsMs: DAY });
    while ((await threads.job(jobId)).moved === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    await threads.cancelJob(jobId);
    return jobId;
  };
  const first = await cancelled();
  t.true((await backupsIn(store)).length > 0);
  t.true((await threads.restoreBackup(first)).restored > 0);
  t.is((await keysInUse(store)).size, 1);
  await cancelled();
  t.true((await backupsIn(store)).length > 0);
  now += DAY;
  const next = await open();
  t.deepEqual(await backupsIn(store), []);
  for (const { state } of (await kms.listKeys({ threadId: 't' })).keys) t.is(state, 'active', 'messages are under all of them');
  t.deepEqual(await bodiesOf(next), ['secret-0', 'secret-edited', 'secret-2', 'secret-3']);
});

test('a start without the key service lets no backups go: their keys could not', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  let now = Date.now();
  const threads = await opened(t, { kms, store, now: () => now });
  await filled(threads);
  const job = await rotated(threads, 't', { keepBackupsMs: DAY });
  now += 2 * DAY;
  await opened(t, { store, now: () => now });
  t.is((await backupsIn(store)).length, 5);
  await opened(t, { kms, store, now: () => now });
  t.is(await stateOf(kms, job.oldKeyIds[0] as string), 'destroyed');
});

test('a job that is cancelled at its very end does not forget the key that was to go', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  let isAway = true;
  const shaky = watched(kms as Provider, {
    before: (method) => {
      if (method === 'destroyKey' && isAway) throw new KmsError('STORE_UNAVAILABLE', 'away');
    },
  });
  const threads = await opened(t, { kms: shaky, store });
  await filled(threads);
  let job = await threads.rotateThreadDek('t', { keepBackupsMs: 0 });
  while (job.phase !== 'end' || job.error === null) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    job = await threads.job(job.jobId);
  }
  await threads.cancelJob(job.jobId);
  isAway = false;
  await threads.recover();
  t.is(await stateOf(kms, job.oldKeyIds[0] as string), 'destroyed');
});

test('many jobs have each their time', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  let now = Date.now();
  const threads = await opened(t, { kms, store, now: () => now });
  const jobs = [];
  for (let i = 0; i < 3; i += 1) {
    await threads.createThread({ threadId: `t${i}` });
    await threads.append(`t${i}`, { body: 'body' });
    jobs.push(await rotated(threads, `t${i}`, { keepBackupsMs: (i + 1) * DAY }));
  }
  // More marks than are read in one go, all of jobs to come later.
  const marks = Array.from({ length: 600 }, (_, i) => ({
    key: `kms:backups:job_${String(i).padStart(32, '0')}`,
    value: Buffer.from(
      JSON.stringify({ jobId: `job_${String(i).padStart(32, '0')}`, threadId: 'none', keyIds: [], at: now + 9 * DAY }),
    ),
  }));
  await store.commit([{ expect: [], put: marks, remove: [] }]);
  now += 2 * DAY;
  await opened(t, { kms, store, now: () => now });
  const states = [];
  for (const { oldKeyIds } of jobs) states.push(await stateOf(kms, oldKeyIds[0] as string));
  t.deepEqual(states, ['destroyed', 'destroyed', 'disabled']);
  t.deepEqual((await backupsIn(store)).length, 1);
});

test('a restore waits for no job and retires nothing: while the thread is busy it is refused', async (t) => {
  const { kms, store, threads } = await ground(t);
  await filled(threads);
  const job = await rotated(threads, 't');
  const next = await threads.rotateThreadDek('t', { messagesPerSecond: 1 });
  await t.throwsAsync(threads.restoreBackup(job.jobId), { code: 'CONFLICT' });
  await threads.cancelJob(next.jobId);
  const meddled = { isDone: false };
  // A job that begins in the middle of a restore: what was put back before is moved by it, the rest is left.
  const meddling = watched(store, {
    before: async (method, args) => {
      if (method !== 'get' || meddled.isDone || !String(args[0]).includes('thread:t:msg:')) return;
      meddled.isDone = true;
      await rotated(threads, 't');
    },
  });
  const restoring = await opened(t, { kms, store: meddling });
  await restoring.restoreBackup(job.jobId);
  t.true(meddled.isDone);
  t.deepEqual(await bodiesOf(threads), ['secret-0', 'secret-edited', 'secret-2', 'secret-3']);
});

test('a restore that comes when the backups are going is refused, and no key goes with what it has put back', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  let now = Date.now();
  const threads = await openThreads({ kms, store, now: () => now });
  await filled(threads);
  const job = await rotated(threads, 't', { keepBackupsMs: DAY });
  now += DAY + 1;
  let refusal: unknown;
  const sweeping = watched(store, {
    before: async (method, args) => {
      const isRemoval = method === 'commit' && JSON.stringify(args).includes('"remove":["backup:');
      if (isRemoval && refusal === undefined) refusal = await threads.restoreBackup(job.jobId).catch((error) => error.code);
    },
  });
  await opened(t, { kms, store: sweeping, now: () => now });
  t.is(refusal, 'CONFLICT');
  t.deepEqual(await bodiesOf(threads), ['secret-0', 'secret-edited', 'secret-2', 'secret-3']);
});

test('a restore of what a later job has replaced is refused, and no key is enabled for it or goes with it too early', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  let now = Date.now();
  const threads = await opened(t, { kms, store, now: () => now });
  await filled(threads);
  const first = await rotated(threads, 't', { keepBackupsMs: DAY });
  const second = await rotated(threads, 't', { keepBackupsMs: 3 * DAY });
  const [oldest] = first.oldKeyIds as [string];
  await t.throwsAsync(threads.restoreBackup(first.jobId), { code: 'CONFLICT' });
  t.is(await stateOf(kms, oldest), 'disabled');
  // The second has an old key of the first among its own: that goes with the first, and no restore of the second needs it.
  t.true(second.oldKeyIds.includes(oldest));
  now += 2 * DAY;
  await threads.sweepBackups();
  t.is(await stateOf(kms, oldest), 'destroyed');
  t.deepEqual(await threads.restoreBackup(second.jobId), { restored: 5, changed: 0 });
  t.is(await stateOf(kms, first.newKeyId), 'active');
  t.deepEqual(await bodiesOf(threads), ['secret-0', 'secret-edited', 'secret-2', 'secret-3']);
});

test('a restore enables only the keys that what it puts back is under', async (t) => {
  const { kms, threads } = await ground(t);
  await filled(threads);
  const first = await rotated(threads, 't');
  const second = await rotated(threads, 't');
  await threads.restoreBackup(second.jobId);
  t.is(await stateOf(kms, first.oldKeyIds[0] as string), 'disabled');
  t.is(await stateOf(kms, first.newKeyId), 'active');
  t.deepEqual(await bodiesOf(threads), ['secret-0', 'secret-edited', 'secret-2', 'secret-3']);
});

test('a restore for which everything was changed since puts nothing back, enables nothing, and the key goes in its time', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  let now = Date.now();
  const threads = await opened(t, { kms, store, now: () => now });
  await threads.createThread({ threadId: 't' });
  const { messageId } = await threads.append('t', { body: 'one' });
  const job = await rotated(threads, 't', { keepBackupsMs: DAY });
  await threads.edit('t', messageId, 'two');
  t.deepEqual(await threads.restoreBackup(job.jobId), { restored: 0, changed: 1 });
  t.is(await stateOf(kms, job.oldKeyIds[0] as string), 'disabled');
  now += 2 * DAY;
  await threads.sweepBackups();
  t.is(await stateOf(kms, job.oldKeyIds[0] as string), 'destroyed');
});

test('a restore without the key service is refused: what it put back would be under a key that stays disabled', async (t) => {
  const { store, threads } = await ground(t);
  await filled(threads);
  const job = await rotated(threads, 't');
  const none = await opened(t, { store });
  const before = await entriesOf(store);
  await t.throwsAsync(none.restoreBackup(job.jobId), { code: 'UNSUPPORTED' });
  t.deepEqual(await entriesOf(store), before);
  t.is((await threads.restoreBackup(job.jobId)).restored, 5);
});
