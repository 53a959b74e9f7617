import test from 'ava';
import { KmsError } from '../../dist/errors.js';
import type { Provider } from '../../dist/provider.js';
import { openMemoryThreadStore } from '../../dist/threads/memory-store.js';
import type { ThreadStore } from '../../dist/threads/thread-store.js';
import { openThreads } from '../../dist/threads/threads.js';
import { allMessages, embedded, entriesOf, keysInUse, opened, put, stateOf, watched } from './threads-ground.js';

const shared = (store: ThreadStore) => watched(store, {}, { isShared: true });
const BODIES = ['body-0', 'body-1', 'body-2'];

async function filled(kms: Provider, store: ThreadStore): Promise<string> {
  const threads = await openThreads({ kms, store });
  const { keyId } = await threads.createThread({ threadId: 't' });
  for (const body of BODIES) await threads.append('t', { body });
  await threads.close();
  return keyId as string;
}

/** Whether a commit brings a job into the phase in which it retires keys. */
function isRetiring(args: readonly unknown[]): boolean {
  const units = args[0] as Array<{ put: Array<{ key: string; value: Uint8Array }> }>;
  const jobs = units.flatMap((unit) => unit.put).filter(({ key }) => key.startsWith('job:entry:'));
  return jobs.some(({ value }) => Buffer.from(value).toString('utf8').includes('"phase":"retire"'));
}

for (const where of ['before it disables the old key', 'as the key service is about to disable the old key'] as const) {
  test(`a runner that stalls ${where} while its job is ended elsewhere and taken back leaves that key in use`, async (t) => {
    const kms = await embedded(t);
    const store = openMemoryThreadStore();
    const oldKey = await filled(kms, store);
    const second = await opened(t, { kms, store: shared(store) });
    let isOver = false;
    const overtake = async () => {
      if (isOver) return;
      isOver = true;
      const { jobId } = (await second.jobs()).jobs[0] as { jobId: string };
      const key = `job:entry:${jobId}`;
      await put(store, { [key]: ((await entriesOf(store)).get(key) as string).replace(/"leaseUntil":\d+/, '"leaseUntil":0') });
      t.deepEqual((await second.recover()).jobs, [jobId]);
      t.is((await second.waitForJob(jobId)).state, 'done');
      t.is(await stateOf(kms, oldKey), 'disabled');
      t.deepEqual(await second.restoreBackup(jobId), { restored: 3, changed: 0 });
    };
    let disables = 0;
    const isEarly = where.startsWith('before');
    const slowStore = watched(shared(store), {
      after: async (method, args) => {
        if (isEarly && method === 'commit' && isRetiring(args)) await overtake();
      },
    });
    const slowKms = watched(kms as Provider, {
      before: async (method) => {
        if (method !== 'disableKey') return;
        disables += 1;
        if (!isEarly) await overtake();
      },
    });
    const first = await opened(t, { kms: slowKms, store: slowStore });
    const { jobId } = await first.rotateThreadDek('t');
    await first.waitForJob(jobId);
    await first.close();
    t.true(isOver);
    t.is(disables, isEarly ? 0 : 1);
    t.is(await stateOf(kms, oldKey), 'active');
    t.deepEqual([...(await keysInUse(store))], [oldKey]);
    t.deepEqual(
      (await allMessages(second, 't')).map(({ body, error }) => error ?? body),
      BODIES,
    );
  });
}

test('a runner that stalls with a batch while its job is ended elsewhere and taken back changes nothing any more', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  const oldKey = await filled(kms, store);
  const before = await entriesOf(store);
  const second = await opened(t, { kms, store: shared(store) });
  let isOver = false;
  const slowStore = watched(shared(store), {
    before: async (method, args) => {
      if (isOver || method !== 'commit' || !JSON.stringify(args).includes('backup:migrate:')) return;
      isOver = true;
      const { jobId } = (await second.jobs()).jobs[0] as { jobId: string };
      await second.pauseJob(jobId);
      await second.resumeJob(jobId);
      t.is((await second.waitForJob(jobId)).state, 'done');
      t.deepEqual(await second.restoreBackup(jobId), { restored: 3, changed: 0 });
    },
  });
  const first = await opened(t, { kms, store: slowStore });
  const { jobId } = await first.rotateThreadDek('t');
  await first.waitForJob(jobId);
  await first.close();
  t.true(isOver);
  const after = await entriesOf(store);
  for (const [key, text] of before) if (key.includes(':msg:')) t.is(after.get(key), text);
  t.deepEqual(
    [...after.keys()].filter((key) => /^(backup|kms:backups):/.test(key)),
    [],
    'nobody would ever remove them',
  );
  t.is(await stateOf(kms, oldKey), 'active');
});

test('a runner that stalls while its job is ended elsewhere, and not taken back, leaves the old key disabled', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  const oldKey = await filled(kms, store);
  const second = await opened(t, { kms, store: shared(store) });
  let isOver = false;
  const slowKms = watched(kms as Provider, {
    before: async (method) => {
      if (method !== 'disableKey' || isOver) return;
      isOver = true;
      const { jobId } = (await second.jobs()).jobs[0] as { jobId: string };
      await second.pauseJob(jobId);
      await second.resumeJob(jobId);
      t.is((await second.waitForJob(jobId)).state, 'done');
    },
  });
  const first = await opened(t, { kms: slowKms, store: shared(store) });
  const { jobId } = await first.rotateThreadDek('t');
  await first.waitForJob(jobId);
  await first.close();
  t.true(isOver);
  t.is(await stateOf(kms, oldKey), 'disabled');
  t.is((await second.restoreBackup(jobId)).restored, 3);
  t.is(await stateOf(kms, oldKey), 'active');
});

test('a job that is gone on with where it retires keys looks once more for what is under them, and moves it', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  const oldKey = await filled(kms, store);
  const before = await entriesOf(store);
  const refusing = watched(kms as Provider, {
    before: (method) => {
      if (method === 'disableKey') throw new KmsError('STORE_UNAVAILABLE', 'away');
    },
  });
  const first = await openThreads({ kms: refusing, store });
  const { jobId } = await first.rotateThreadDek('t');
  while ((await first.job(jobId)).error === null) await new Promise((resolve) => setTimeout(resolve, 1));
  t.is((await first.job(jobId)).phase, 'retire');
  await first.close();
  const [key] = [...before.keys()].filter((one) => one.startsWith('thread:t:msg:')) as [string];
  await put(store, { [key]: before.get(key) as string });
  await kms.disableKey(oldKey);
  const next = await opened(t, { kms, store });
  const job = await next.waitForJob(jobId);
  t.is(job.state, 'done');
  t.deepEqual([...(await keysInUse(store))], [job.newKeyId as string]);
  t.is(await stateOf(kms, oldKey), 'disabled');
  t.deepEqual(
    (await allMessages(next, 't')).map(({ body, error }) => error ?? body),
    BODIES,
  );
});
