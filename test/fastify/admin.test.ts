import test from 'ava';
import { KmsError } from '../../dist/errors.js';
import { openThreads } from '../../dist/threads/index.js';
import { type Answered, changed, served, storedText } from './served.js';

for (const path of ['/admin/rotate_thread_dek', '/admin/encryption/rotate-thread-dek']) {
  test(`${path} answers with the new key, and the job goes on`, async (t) => {
    const { ask, threads } = await served(t);
    const { key_id: before } = (await ask('POST', '/threads', { thread_id: 'a' })).json;
    for (let i = 0; i < 20; i += 1) await threads.append('a', { body: i });
    const { status, json } = await ask('POST', path, { thread_id: 'a', keep_backups_ms: 0 });
    t.is(status, 200);
    t.deepEqual(Object.keys(json), ['status', 'new_key', 'job_id']);
    t.is(json.status, 'ok');
    t.regex(json.new_key, /^k_[0-9a-f]{32}$/);
    t.not(json.new_key, before);
    t.is((await ask('GET', '/threads/a')).json.key_id, json.new_key);
    await threads.waitForJob(json.job_id);
    const job = (await ask('GET', `/admin/jobs/${json.job_id}`)).json;
    t.like(job, { state: 'done', thread_id: 'a', new_key_id: json.new_key, moved: 20, blocked_by: [] });
    t.is(job.options.keep_backups_ms, 0);
    t.is((await ask('GET', '/threads/a/messages')).json.messages[19].body, 19);
  });
}

test('a dry run tells what a rotation would do, and changes nothing', async (t) => {
  const { ask, threads, store } = await served(t);
  await ask('POST', '/threads', { thread_id: 'a' });
  await threads.append('a', { body: 1 });
  const before = await storedText(store);
  const { json } = await ask('POST', '/admin/rotate_thread_dek', { thread_id: 'a', dry_run: true });
  t.deepEqual(json, { status: 'ok', thread_id: 'a', total: 1, to_move: 1, blocked_by: [] });
  t.is(await storedText(store), before);
});

test('a rotation whose key cannot be made says so, and names the job that goes on by itself', async (t) => {
  let isAway = false;
  const { ask, threads } = await served(t, {
    kms: (kms) =>
      changed(kms, {
        createDekForThread: async (...given) => {
          if (isAway) throw new KmsError('STORE_UNAVAILABLE', 'inside');
          return kms.createDekForThread(...given);
        },
      }),
  });
  await ask('POST', '/threads', { thread_id: 'a' });
  isAway = true;
  const { status, json } = await ask('POST', '/admin/rotate_thread_dek', { thread_id: 'a' });
  t.is(status, 503);
  t.deepEqual(json.error, { code: 'STORE_UNAVAILABLE', message: 'the key store is unavailable' });
  t.like((await ask('GET', `/admin/jobs/${json.job_id}`)).json, { state: 'running', new_key_id: null });
  const busy = await ask('POST', '/admin/rotate_thread_dek', { thread_id: 'a' });
  t.is(busy.status, 409);
  isAway = false;
  t.is((await threads.waitForJob(json.job_id)).state, 'done');
});

test('jobs are listed, paused, resumed, cancelled, and their backups put back', async (t) => {
  const { ask, threads } = await served(t);
  const { key_id: before } = (await ask('POST', '/threads', { thread_id: 'a' })).json;
  for (let i = 0; i < 1_200; i += 1) await threads.append('a', { body: i });
  // Far from done when it is paused and cancelled.
  const slow = { thread_id: 'a', messages_per_second: 10, concurrency: 1 };
  const { job_id: id } = (await ask('POST', '/admin/rotate_thread_dek', slow)).json;
  t.is((await ask('POST', `/admin/jobs/${id}/pause`)).json.state, 'paused');
  t.is((await ask('POST', `/admin/jobs/${id}/pause`)).status, 409);
  t.deepEqual(
    (await ask('GET', '/admin/jobs')).json.jobs.map((job: Answered) => [job.job_id, job.state]),
    [[id, 'paused']],
  );
  t.is((await ask('POST', `/admin/jobs/${id}/resume`, {})).json.state, 'running');
  t.is((await ask('POST', `/admin/jobs/${id}/cancel`)).json.state, 'cancelled');
  const second = (await ask('POST', '/admin/rotate_thread_dek', { thread_id: 'a' })).json.job_id;
  await threads.waitForJob(second);
  const restored = await ask('POST', `/admin/jobs/${second}/restore-backup`);
  t.is(restored.status, 200);
  t.is(restored.json.status, 'ok');
  t.true(restored.json.restored > 0);
  t.is(restored.json.changed, 0);
  t.is((await ask('POST', `/admin/jobs/${second}/restore-backup`)).status, 404, 'they are put back once');
  t.is((await threads.list('a', { limit: 1_000 })).messages.filter(({ error }) => error !== null).length, 0);
  t.truthy(before);
});

test('encrypt-existing leaves no plaintext of threads that had no key, and finds nothing more to do', async (t) => {
  const { ask, store, kms } = await served(t);
  const plain = await openThreads({ store });
  for (const threadId of ['a', 'b', 'c']) {
    await plain.createThread({ threadId });
    await plain.append(threadId, { body: `plain text of ${threadId}` });
  }
  await plain.close();
  const dry = await ask('POST', '/admin/encryption/encrypt-existing', { thread_ids: ['a', 'x'], dry_run: true });
  t.deepEqual(dry.json, {
    status: 'ok',
    jobs: [
      { thread_id: 'a', total: 1, to_move: 1, blocked_by: [] },
      { thread_id: 'x', error: { code: 'NOT_FOUND', message: 'not found: thread x' } },
    ],
    next: null,
  });
  t.true((await storedText(store)).includes('plain text of a'));
  const named = await ask('POST', '/admin/encryption/encrypt-existing', { thread_ids: ['a'] });
  t.is(named.json.jobs.length, 1);
  const threads = await openThreads({ store, kms });
  t.teardown(() => threads.close());
  await threads.waitForJob(named.json.jobs[0].job_id);
  const all = await ask('POST', '/admin/encryption/encrypt-existing', { all: true });
  t.deepEqual(
    all.json.jobs.map((job: Answered) => job.thread_id),
    ['b', 'c'],
  );
  for (const { job_id } of all.json.jobs) await threads.waitForJob(job_id);
  t.false((await storedText(store)).includes('plain text'));
  t.deepEqual((await ask('POST', '/admin/encryption/encrypt-existing', { all: true })).json, {
    status: 'ok',
    jobs: [],
    next: null,
  });
  t.is((await ask('GET', '/threads/c/messages')).json.messages[0].body, 'plain text of c');
});

test('encrypt-existing begins so many jobs at once, and says where to go on', async (t) => {
  const { ask, store } = await served(t);
  const plain = await openThreads({ store });
  for (let i = 100; i < 170; i += 1) await plain.createThread({ threadId: `t${i}` });
  await plain.close();
  const first = await ask('POST', '/admin/encryption/encrypt-existing', { all: true, dry_run: true });
  t.is(first.json.jobs.length, 64);
  t.is(first.json.next, 't163');
  const rest = await ask('POST', '/admin/encryption/encrypt-existing', { all: true, dry_run: true, cursor: 't163' });
  t.is(rest.json.jobs.length, 6);
  t.is(rest.json.next, null);
});

test('rewrap-deks moves keys to the active KEK, and writes that into the records of the threads', async (t) => {
  const { ask, kms, store, threads } = await served(t);
  for (const id of ['a', 'b', 'c']) await ask('POST', '/threads', { thread_id: id });
  await threads.append('a', { body: 'x' });
  const metaOf = async (id: string) => JSON.parse(Buffer.from((await store.get([`thread:${id}:meta`]))[0]!).toString('utf8')).kms;
  const before = await metaOf('a');
  // A rotation moves every key by itself, and the records of the threads do not know.
  await kms.rotateKek({ wait: true });
  t.is((await metaOf('a')).kek_version, '1');
  const some = await ask('POST', '/admin/encryption/rewrap-deks', { thread_ids: ['a', 'x'], parallelism: 2 });
  t.deepEqual(some.json, {
    status: 'ok',
    rewrapped: 1,
    skipped: 0,
    failed: 1,
    failures: [{ thread_id: 'x', error: { code: 'NOT_FOUND', message: 'not found: thread x' } }],
  });
  const after = await metaOf('a');
  t.is(after.kek_version, '2');
  t.not(after.kek_id, before.kek_id);
  t.is(after.wrapped_dek, Buffer.from(await kms.getWrapped(after.key_id)).toString('base64'));
  t.deepEqual(
    { ...after, wrapped_dek: '', kek_id: '', kek_version: '' },
    { ...before, wrapped_dek: '', kek_id: '', kek_version: '' },
  );
  t.is((await metaOf('b')).kek_version, '1');
  t.like((await ask('POST', '/admin/encryption/rewrap-deks', { all: true })).json, { rewrapped: 3, failed: 0 });
  t.is((await metaOf('c')).kek_version, '2');
  t.is((await ask('GET', '/threads/a/messages')).json.messages[0].body, 'x');
});

test('a key that a thread gets while it is rewrapped is not written over', async (t) => {
  let after = async () => {};
  const { ask, kms, store, threads } = await served(t, {
    kms: (own) =>
      changed(own, {
        rewrapDek: async (...given) => {
          const done = await own.rewrapDek(...given);
          const work = after;
          after = async () => {};
          await work();
          return done;
        },
      }),
  });
  await ask('POST', '/threads', { thread_id: 'a' });
  let rotated = '';
  after = async () => {
    const { job_id, new_key } = (await ask('POST', '/admin/rotate_thread_dek', { thread_id: 'a' })).json;
    await threads.waitForJob(job_id);
    rotated = new_key;
  };
  t.like((await ask('POST', '/admin/encryption/rewrap-deks', { thread_ids: ['a'] })).json, { rewrapped: 1, failed: 0 });
  t.regex(rotated, /^k_/);
  t.is((await ask('GET', '/threads/a')).json.key_id, rotated);
  const { kms: meta } = JSON.parse(Buffer.from((await store.get(['thread:a:meta']))[0]!).toString('utf8'));
  t.is(meta.wrapped_dek, Buffer.from(await kms.getWrapped(rotated)).toString('base64'));
});

test('threads are listed page by page, without those that begin alike or are purged', async (t) => {
  const { ask, threads, store } = await served(t);
  for (const id of ['a', 'a:b', 'b', 'c']) await ask('POST', '/threads', { thread_id: id });
  for (const id of ['a', 'b']) await threads.append(id, { body: 1 });
  const listed = async (query = '') => {
    const { json } = await ask('GET', `/admin/threads${query}`);
    return [json.threads.map((thread: Answered) => thread.thread_id), json.next];
  };
  t.deepEqual(await listed(), [['a:b', 'a', 'b', 'c'], null]);
  t.deepEqual(await listed('?limit=3'), [['a:b', 'a', 'b'], 'b']);
  t.deepEqual(await listed('?limit=3&cursor=b'), [['c'], null]);
  t.deepEqual((await ask('DELETE', '/threads/b')).json, { status: 'ok' });
  t.deepEqual(await listed(), [['a:b', 'a', 'c'], null]);
  t.is((await ask('GET', '/threads/b')).status, 404);
  await store.commit([{ expect: [], put: [{ key: 'thread:c:meta', value: Buffer.from('{') }], remove: [] }]);
  const { json } = await ask('GET', '/admin/threads');
  t.deepEqual(json.damaged, ['c']);
});

test('without a key service, threads are plain, and what needs one says so', async (t) => {
  const { ask } = await served(t, { kms: () => undefined });
  t.is((await ask('POST', '/threads', { thread_id: 'a' })).json.key_id, null);
  t.is((await ask('POST', '/threads/a/messages', { body: 1 })).status, 201);
  t.is((await ask('POST', '/admin/rotate_thread_dek', { thread_id: 'a' })).status, 409);
  t.is((await ask('POST', '/admin/encryption/rewrap-deks', { all: true })).status, 501);
});

test('jobs are listed page by page, the oldest or the newest first', async (t) => {
  const { ask, threads } = await served(t);
  await ask('POST', '/threads', { thread_id: 'a' });
  const made: string[] = [];
  for (let i = 0; i < 5; i += 1) {
    made.push((await ask('POST', '/admin/rotate_thread_dek', { thread_id: 'a' })).json.job_id);
    await threads.waitForJob(made[i] as string);
  }
  const listed = async (query: string) => {
    const { json } = await ask('GET', `/admin/jobs${query}`);
    return [json.jobs.map((job: Answered) => job.job_id), json.next];
  };
  t.deepEqual(await listed(''), [made, null]);
  t.deepEqual(await listed('?limit=3'), [made.slice(0, 3), made[2]]);
  t.deepEqual(await listed(`?limit=3&cursor=${made[2]}`), [made.slice(3), null]);
  t.deepEqual(await listed('?limit=1&reverse=true'), [made.slice(4), made[4]]);
  for (const query of ['limit=0', 'limit=1001', 'cursor=x', 'state=done']) {
    t.is((await ask('GET', `/admin/jobs?${query}`)).status, 400, query);
  }
});

test('encryption that defers its compaction is compacted when that is asked for, and not twice', async (t) => {
  const { ask, store, threads } = await served(t);
  const plain = await openThreads({ store });
  for (const threadId of ['a', 'b']) {
    await plain.createThread({ threadId });
    await plain.append(threadId, { body: 'text' });
  }
  await plain.close();
  const compact = async () => (await ask('POST', '/admin/encryption/compact')).json;
  t.deepEqual(await compact(), { status: 'ok', compacted: false });
  const { jobs } = (await ask('POST', '/admin/encryption/encrypt-existing', { all: true, defer_compaction: true })).json;
  for (const { job_id: id } of jobs) t.is((await threads.waitForJob(id)).state, 'done');
  t.deepEqual(await compact(), { status: 'ok', compacted: true });
  t.deepEqual(await compact(), { status: 'ok', compacted: false });
});
