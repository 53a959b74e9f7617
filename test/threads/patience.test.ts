import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { type ErrorCode, KmsError } from '../../dist/errors.js';
import type { Provider } from '../../dist/provider.js';
import { openMemoryThreadStore } from '../../dist/threads/memory-store.js';
import { Threads } from '../../dist/threads/threads.js';
import { newSeed, randomFrom } from '../crash/random.js';
import { allMessages, embedded, keysInUse, opened, rotated, watched } from './threads-ground.js';

async function filled(threads: Threads, count: number): Promise<string[]> {
  await threads.createThread({ threadId: 't' });
  const bodies = Array.from({ length: count }, (_, i) => `body-${i}`);
  for (const body of bodies) await threads.append('t', { body });
  return bodies;
}

const bodiesOf = async (threads: Threads) => (await allMessages(threads, 't')).map(({ body, error }) => error ?? body);

/** A provider that refuses to seal messages of a job as often as it is told to. */
function refusing(kms: Provider, code: ErrorCode) {
  const refusal = { left: 0, seen: () => {}, passed: () => {} };
  const target = watched(kms, {
    before: (method) => {
      if (method !== 'encryptMany') return;
      if (refusal.left === 0) return refusal.passed();
      refusal.left -= 1;
      refusal.seen();
      throw new KmsError(code, 'away');
    },
  });
  return { target, refusal };
}

test('a job asks for a key service that is away after pauses that grow, and ends by itself once it is back', async (t) => {
  const { target, refusal } = refusing(await embedded(t), 'STORE_UNAVAILABLE');
  const store = openMemoryThreadStore();
  const pauses: number[] = [];
  let isAway = false;
  const wait = async (ms: number) => {
    if (isAway) pauses.push((pauses.pop() as number) + ms);
    await delay(0);
  };
  refusal.seen = () => {
    isAway = true;
    pauses.push(0);
  };
  refusal.passed = () => {
    // It goes again in the middle: what it had done meanwhile has the pauses begin anew.
    if (isAway && pauses.length === 9) setImmediate(() => Object.assign(refusal, { left: 2 }));
    isAway = false;
  };
  const threads = await opened(t, { kms: target, store, wait });
  const bodies = await filled(threads, 10);
  refusal.left = 9;
  const job = await rotated(threads, 't', { messagesPerSecond: 5 });
  t.is(job.state, 'done');
  t.is(job.error, null);
  t.deepEqual(pauses, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000, 100, 200]);
  t.deepEqual(await bodiesOf(threads), bodies);
  t.deepEqual([...(await keysInUse(store))], [job.newKeyId as string]);
});

test('a job that waits for the key service says so, and an order or the end of the process does not wait for it', async (t) => {
  const { target, refusal } = refusing(await embedded(t), 'SEALED');
  const store = openMemoryThreadStore();
  let waits = 0;
  const wait = async () => {
    waits += 1;
    await delay(1);
  };
  const threads = await opened(t, { kms: target, store, wait });
  await filled(threads, 3);
  const waiting = async (jobId: string) => {
    while ((await threads.job(jobId)).error === null) await delay(1);
    return threads.job(jobId);
  };
  refusal.left = Number.POSITIVE_INFINITY;
  const { jobId } = await threads.rotateThreadDek('t');
  const { state, error } = await waiting(jobId);
  t.is(state, 'running');
  t.regex(error as string, /sealed: away/);
  // At the beginning of a long pause.
  while (waits < 50) await delay(1);
  await new Promise<void>((seen) => Object.assign(refusal, { seen }));
  const before = waits;
  t.is((await threads.pauseJob(jobId)).state, 'paused');
  t.true(waits - before <= 5, `${waits - before} waits`);
  t.is((await threads.job(jobId)).error, null);
  await threads.resumeJob(jobId);
  await waiting(jobId);
  t.is((await threads.cancelJob(jobId)).state, 'cancelled');
  const next = await threads.rotateThreadDek('t');
  await waiting(next.jobId);
  await threads.close();
  t.is((await threads.job(next.jobId)).state, 'running');
  refusal.left = 0;
  const after = await opened(t, { kms: target, store });
  t.is((await after.waitForJob(next.jobId)).state, 'done');
});

test('what does not pass by itself fails a job, which goes on when it is resumed', async (t) => {
  const { target, refusal } = refusing(await embedded(t), 'PERMISSION_DENIED');
  let refusals = 0;
  const store = watched(openMemoryThreadStore(), {
    before: (method, args) => {
      if (method !== 'commit' || refusals === 0 || !JSON.stringify(args).includes('job:entry:')) return;
      refusals -= 1;
      throw new KmsError(refusals % 2 === 0 ? 'STORE_UNAVAILABLE' : 'INTERNAL', 'full');
    },
  });
  const threads = await opened(t, { kms: target, store, wait: () => delay(0) });
  const bodies = await filled(threads, 10);
  refusal.left = 1;
  // A store that does not take the failure either is asked again until it does.
  refusal.seen = () => {
    refusals = 4;
  };
  const job = await rotated(threads, 't');
  t.is(job.state, 'failed');
  t.is(refusals, 0);
  t.regex(job.error as string, /permission denied: away/);
  t.deepEqual(await bodiesOf(threads), bodies);
  await threads.resumeJob(job.jobId);
  const done = await threads.waitForJob(job.jobId);
  t.is(done.state, 'done');
  t.is(done.error, null);
  t.deepEqual(await bodiesOf(threads), bodies);
});

test('a store that fails now and then, before it has done what it was asked or after, ends no job', async (t) => {
  const kms = await embedded(t);
  const plain = openMemoryThreadStore();
  const seed = newSeed();
  t.log(`TEST_SEED=${seed}`);
  const random = randomFrom(seed);
  let failures = 0;
  let share = 0;
  const mayFail = () => {
    if (random() >= share) return;
    failures += 1;
    throw new KmsError('STORE_UNAVAILABLE', 'away');
  };
  const store = watched(plain, { before: mayFail, after: mayFail });
  const threads = await opened(t, { kms, store, wait: () => delay(0) });
  const bodies = await filled(threads, 20);
  const onlooker = new Threads({ kms, store: plain });
  for (let rotation = 1; rotation <= 5; rotation += 1) {
    const { jobId } = await threads.rotateThreadDek('t', { messagesPerSecond: 5, keepBackupsMs: 0 });
    share = 0.1;
    t.is((await onlooker.waitForJob(jobId)).state, 'done');
    share = 0;
    await threads.waitForJob(jobId);
    t.deepEqual(await bodiesOf(threads), bodies);
    t.deepEqual([...(await keysInUse(plain))], [(await threads.thread('t'))?.keyId as string]);
    const states = (await kms.listKeys({ threadId: 't' })).keys.map(({ state }) => state);
    t.deepEqual(states.sort(), ['active', ...Array(rotation).fill('destroyed')]);
  }
  t.true(failures > 10);
});

test('a key that was made, and its answer lost, is taken rather than made again', async (t) => {
  const kms = await embedded(t);
  let losses = 0;
  const lossy = watched(kms as Provider, {
    after: (method) => {
      if (method !== 'createDekForThread' || losses === 0) return;
      losses -= 1;
      throw new KmsError('STORE_UNAVAILABLE', 'the connection was lost');
    },
  });
  const threads = await opened(t, { kms: lossy, store: openMemoryThreadStore() });
  await filled(threads, 3);
  losses = 1;
  const job = await rotated(threads, 't');
  t.is(job.state, 'done');
  const keys = (await kms.listKeys({ threadId: 't' })).keys.map(({ keyId }) => keyId);
  t.deepEqual(keys.sort(), [...job.oldKeyIds, job.newKeyId as string].sort());
});

test('a key service that is sealed in the middle of a batch blocks no job, and no listing says that a message is bad', async (t) => {
  const kms = await embedded(t);
  let sealings = 0;
  const store = openMemoryThreadStore();
  const target = watched(
    kms as Provider,
    {},
    {
      decryptMany: async (...args: Parameters<Provider['decryptMany']>) => {
        const results = await kms.decryptMany(...args);
        if (sealings > 0) results[results.length - 1] = new KmsError('SEALED');
        sealings = Math.max(0, sealings - 1);
        return results;
      },
    },
  );
  const threads = await opened(t, { kms: target, store });
  const bodies = await filled(threads, 5);
  sealings = 1;
  await t.throwsAsync(threads.list('t'), { code: 'SEALED' });
  sealings = 2;
  const job = await rotated(threads, 't');
  t.is(job.state, 'done');
  t.deepEqual(job.blockedBy, []);
  t.deepEqual(await bodiesOf(threads), bodies);
});

test('a walk over a long thread gives others their turn', async (t) => {
  const threads = await opened(t, { store: openMemoryThreadStore() });
  await filled(threads, 2_500);
  let turns = 0;
  const count = () => {
    turns += 1;
    if (turns < 1_000) setImmediate(count);
  };
  setImmediate(count);
  const { total } = await threads.forecast('encrypt-existing', 't');
  const seen = turns;
  turns = 1_000;
  t.is(total, 2_500);
  t.true(seen >= 3, `${seen} turns`);
});
