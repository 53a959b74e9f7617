import test from 'ava';
import type { EmbeddedKms } from '../../dist/create.js';
import type { Provider } from '../../dist/provider.js';
import { openMemoryThreadStore } from '../../dist/threads/memory-store.js';
import type { ThreadStore } from '../../dist/threads/thread-store.js';
import { openThreads, Threads } from '../../dist/threads/threads.js';
import { OriginalServer } from './original-server.js';
import {
  allMessages,
  allVersions,
  embedded,
  entriesOf,
  keysInUse,
  Mortality,
  opened,
  put,
  stateOf,
  textOf,
  watched,
} from './threads-ground.js';

type Kind = 'rotate' | 'encrypt-existing';

/** A thread with messages of both forms, edited ones among them: their bodies, the oldest version first. */
async function full(kms: EmbeddedKms, store: ThreadStore, threadId: string, kind: Kind): Promise<Map<string, string[]>> {
  const server = new OriginalServer(kms, store, threadId);
  const bodies = new Map<string, string[]>();
  if (kind === 'rotate') await server.createThread();
  else await put(store, { [`thread:${threadId}:meta`]: `{"id":"${threadId}","created_ts":1}` });
  const old = await server.append(kind === 'rotate' ? await server.envelope('"secret-old"') : '"secret-old"');
  bodies.set(old.id, ['secret-old']);
  const threads = await openThreads(kind === 'rotate' ? { kms, store } : { store });
  for (let i = 0; i < 4; i += 1) bodies.set((await threads.append(threadId, { body: `secret-${i}` })).messageId, [`secret-${i}`]);
  const edited = [...bodies.keys()][2] as string;
  await threads.edit(threadId, edited, 'secret-edited');
  bodies.set(edited, ['secret-1', 'secret-edited']);
  await threads.close();
  return bodies;
}

async function bodiesOf(threads: Threads, threadId: string): Promise<Map<string, unknown[]>> {
  const found = new Map<string, unknown[]>();
  for (const { messageId, body, error } of await allMessages(threads, threadId)) {
    const versions = await allVersions(threads, threadId, messageId);
    found.set(messageId, [...versions.map((one) => one.error ?? one.body), error ?? body]);
  }
  return found;
}

function begin(threads: Threads, kind: Kind, threadId: string) {
  const options = { concurrency: 1, keepBackupsMs: 0 };
  return kind === 'rotate' ? threads.rotateThreadDek(threadId, options) : threads.encryptExisting(threadId, options);
}

for (const kind of ['rotate', 'encrypt-existing'] as const) {
  for (const when of ['before', 'after'] as const) {
    test(`${kind}: whatever call a process dies at, ${when} it is made, the next one ends the job and all is exact`, async (t) => {
      const kms = await embedded(t);
      const whole = new Mortality();
      const counting = openMemoryThreadStore();
      await full(kms, counting, 'whole', kind);
      const first = await openThreads({ kms: whole.of(kms as Provider), store: whole.of(counting) });
      const opening = whole.calls;
      await first.waitForJob((await begin(first, kind, 'whole')).jobId);
      t.true(whole.calls - opening > 15);
      for (let at = opening + 1; at <= whole.calls; at += 1) {
        const threadId = `${when}-${at}`;
        const store = openMemoryThreadStore();
        const bodies = await full(kms, store, threadId, kind);
        const death = new Mortality(at, when);
        const dying = await openThreads({ kms: death.of(kms as Provider), store: death.of(store) });
        const job = await begin(dying, kind, threadId).catch(() => undefined);
        // A job does not end while nobody can write that down.
        if (job !== undefined) void dying.waitForJob(job.jobId).catch(() => {});
        while (!death.isDead) await new Promise((resolve) => setTimeout(resolve, 1));
        await dying.close();

        // Before anybody goes on with it, all is there.
        const reader = await openThreads({ kms, store: watched(store, {}, { isShared: true }) });
        await reader.close();
        t.deepEqual(await bodiesOf(reader, threadId), bodies, threadId);

        const next = await openThreads({ kms, store });
        const { jobs } = await next.jobs();
        if (jobs.length === 0) await next.waitForJob((await begin(next, kind, threadId)).jobId);
        for (const { jobId } of jobs) t.is((await next.waitForJob(jobId)).state, 'done', threadId);
        t.deepEqual(await bodiesOf(next, threadId), bodies, threadId);
        const { keyId } = (await next.thread(threadId)) as { keyId: string };
        t.deepEqual([...(await keysInUse(store))], [keyId], threadId);
        const active = (await kms.listKeys({ threadId })).keys.filter(({ state }) => state === 'active');
        t.deepEqual(
          active.map((key) => key.keyId),
          [keyId],
          threadId,
        );
        t.false((await textOf(store)).includes('secret-'), threadId);
        t.deepEqual(
          [...(await entriesOf(store)).keys()].filter((key) => /^(job:busy|backup|kms:backups)/.test(key)),
          [],
          threadId,
        );
        await next.close();
      }
    });
  }
}

test('a job that dies between the versions of a message is gone on with among them', async (t) => {
  const kms = await embedded(t);
  const expected = ['secret-0', 'secret-1', 'secret-2', 'secret-3'];
  // A page of one entry: the cursor is among the versions most of the time. Nobody waits for the pace.
  const options = { messagesPerSecond: 1, keepBackupsMs: 0 };
  const wait = () => new Promise<void>((resolve) => setImmediate(resolve));
  let isDone = false;
  const cursors = new Set<string>();
  for (let at = 1; !isDone; at += 1) {
    const store = openMemoryThreadStore();
    const threads = await openThreads({ kms, store });
    const threadId = `t${at}`;
    await threads.createThread({ threadId });
    const { messageId } = await threads.append(threadId, { body: 'secret-0' });
    for (const body of expected.slice(1)) await threads.edit(threadId, messageId, body);
    await threads.close();
    const death = new Mortality(at, 'after');
    const struck = new Threads({ kms: death.of(kms as Provider), store: death.of(store), wait });
    const job = await struck.rotateThreadDek(threadId, options).catch(() => undefined);
    if (job !== undefined) void struck.waitForJob(job.jobId).catch(() => {});
    const isOver = async () =>
      [...(await entriesOf(store))].some(([key, text]) => key.startsWith('job:entry:') && text.includes('"state":"done"'));
    while (!death.isDead && !isDone) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      isDone = await isOver();
    }
    await struck.close();
    for (const [key, text] of await entriesOf(store))
      if (key.startsWith('job:entry:')) cursors.add(JSON.parse(text).cursor.replaceAll(threadId, ''));
    const next = await openThreads({ kms, store, wait });
    for (const { jobId } of (await next.jobs()).jobs) t.is((await next.waitForJob(jobId)).state, 'done');
    const bodies = async () => [...(await allVersions(next, threadId, messageId)), await next.read(threadId, messageId)];
    t.deepEqual(
      (await bodies()).map((message) => message?.error ?? message?.body),
      expected,
    );
    const { keyId } = (await next.thread(threadId)) as { keyId: string };
    t.deepEqual([...(await keysInUse(store))], [keyId], `${at}`);
    await next.close();
  }
  t.true([...cursors].filter((cursor) => cursor.includes(' version:msg:')).length > 1);
});

test('in a shared store a job is taken over from who has died, not from who works', async (t) => {
  const kms = await embedded(t);
  const store = watched(openMemoryThreadStore(), {}, { isShared: true });
  const bodies = await full(kms, store, 't', 'rotate');
  const first = await opened(t, { kms, store });
  const { jobId } = await first.rotateThreadDek('t', { messagesPerSecond: 1 });
  while ((await first.job(jobId)).moved === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  const second = new Threads({ kms, store });
  t.deepEqual((await second.recover()).jobs, []);
  // The order of one process reaches the other.
  t.is((await second.cancelJob(jobId)).state, 'cancelled');
  await first.waitForJob(jobId);
  const next = await second.rotateThreadDek('t');
  t.is((await second.waitForJob(next.jobId)).state, 'done');
  t.deepEqual(await bodiesOf(first, 't'), bodies);
  t.is(await stateOf(kms, ((await first.thread('t')) as { keyId: string }).keyId), 'active');
});

test('a start without the key service leaves a job for one that has it', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  const first = await openThreads({ kms, store });
  await first.createThread({ threadId: 't' });
  for (let i = 0; i < 5; i += 1) await first.append('t', { body: `body-${i}` });
  const { jobId } = await first.rotateThreadDek('t', { messagesPerSecond: 1 });
  while ((await first.job(jobId)).moved === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  await first.close();
  const none = await openThreads({ store });
  t.deepEqual(none.recovered?.jobs, []);
  t.is((await none.job(jobId)).state, 'running');
  await none.close();
  const next = await opened(t, { kms, store, wait: async () => {} });
  t.deepEqual(next.recovered?.jobs, [jobId]);
  t.is((await next.waitForJob(jobId)).state, 'done');
});
