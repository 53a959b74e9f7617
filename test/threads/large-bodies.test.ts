import test, { type ExecutionContext } from 'ava';
import type { EmbeddedKms } from '../../dist/create.js';
import { MAX_MESSAGE_BODY_BYTES, MAX_STORED_VALUE_BYTES } from '../../dist/limits.js';
import { openLmdbThreadStore } from '../../dist/threads/lmdb-store.js';
import { openMemoryThreadStore } from '../../dist/threads/memory-store.js';
import type { ThreadStore } from '../../dist/threads/thread-store.js';
import { openThreads } from '../../dist/threads/threads.js';
import { newStorePath } from './lmdb-ground.js';
import { allMessages, embedded, encrypted, entriesOf, opened, rotated } from './threads-ground.js';

const STORES: Record<string, (t: ExecutionContext) => Promise<ThreadStore>> = {
  memory: async () => openMemoryThreadStore(),
  LMDB: async (t) => {
    const store = await openLmdbThreadStore(newStorePath(t));
    t.teardown(() => store.close());
    return store;
  },
};

/** The longest that is taken: its JSON text has two quotes. */
const LARGEST = 'x'.repeat(MAX_MESSAGE_BODY_BYTES - 2);

async function backupsIn(store: ThreadStore): Promise<string[]> {
  return [...(await entriesOf(store)).keys()].filter((key) => key.startsWith('backup:'));
}

/** Whether a message is what it should be, without an assertion that would print it. */
async function reads(threads: Awaited<ReturnType<typeof openThreads>>, expected: unknown[]): Promise<boolean> {
  const texts = (await allMessages(threads, 't')).map(({ body, error }) => error?.message ?? JSON.stringify(body));
  return texts.join('\n') === expected.map((body) => JSON.stringify(body)).join('\n');
}

for (const [name, open] of Object.entries(STORES)) {
  test.serial(`the largest body is written, edited, rotated with backups, put back and purged: ${name}`, async (t) => {
    const kms = await embedded(t);
    const store = await open(t);
    const threads = await opened(t, { kms, store });
    await threads.createThread({ threadId: 't' });
    const { messageId } = await threads.append('t', { body: LARGEST });
    await threads.edit('t', messageId, LARGEST.replace('x', 'y'));
    const before = await entriesOf(store);
    const job = await rotated(threads, 't');
    t.deepEqual([job.state, job.moved], ['done', 2]);
    t.is((await backupsIn(store)).length, 2);
    t.true(await reads(threads, [LARGEST.replace('x', 'y')]));
    t.deepEqual(await threads.restoreBackup(job.jobId), { restored: 2, changed: 0 });
    const after = await entriesOf(store);
    for (const [key, text] of before) if (/^(thread:t:msg|version):/.test(key)) t.true(after.get(key) === text, key);
    t.true(await reads(threads, [LARGEST.replace('x', 'y')]));
    t.is((await rotated(threads, 't')).state, 'done');
    await threads.purge('t');
    t.deepEqual([...(await entriesOf(store)).keys()], []);
  });

  test.serial(`a longer body is refused as it is written, with a key and without: ${name}`, async (t) => {
    const kms = await embedded(t);
    const store = await open(t);
    const threads = await opened(t, { kms, store });
    const plain = await opened(t, { store });
    await threads.createThread({ threadId: 't' });
    await plain.createThread({ threadId: 'plain' });
    const { messageId } = await threads.append('t', { body: 'short' });
    // Escaped, it is longer than the characters that it has.
    const escapedBody = '"'.repeat(MAX_MESSAGE_BODY_BYTES / 2);
    for (const body of [`${LARGEST}x`, escapedBody]) {
      await t.throwsAsync(threads.append('t', { body }), { code: 'TOO_LARGE' });
      await t.throwsAsync(plain.append('plain', { body }), { code: 'TOO_LARGE' });
      await t.throwsAsync(threads.edit('t', messageId, body), { code: 'TOO_LARGE' });
    }
    t.deepEqual((await plain.list('plain')).messages, []);
    t.is((await threads.read('t', messageId))?.body, 'short');
  });
}

test.serial('the largest body that was in plaintext is encrypted, as a whole and place by place', async (t) => {
  const kms = await embedded(t);
  const many = Object.fromEntries(Array.from({ length: 130_000 }, (_, i) => [`n${i}`, i]));
  const bodies = [LARGEST, { text: LARGEST.slice(100), note: 'secret-note' }, many];
  for (const fields of [['body'], ['body.*']]) {
    const store = openMemoryThreadStore();
    const plain = await openThreads({ store });
    await plain.createThread({ threadId: 't' });
    for (const body of bodies) await plain.append('t', { body });
    const threads = await opened(t, { kms, store, fields });
    const job = await encrypted(threads, 't');
    t.deepEqual([job.state, job.moved, job.blockedBy], ['done', 3, []]);
    t.true(await reads(threads, bodies));
    // It has been done, and is not done again.
    t.is((await threads.forecast('encrypt-existing', 't')).toMove, 0);
    t.is((await rotated(threads, 't')).state, 'done');
    t.true(await reads(threads, bodies));
    t.false([...(await entriesOf(store)).values()].some((text) => text.includes('secret-note') || text.includes('n129999')));
  }
});

test.serial('a message that would not fit into the store under a key of a longer name is moved as a whole', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  const threads = await opened(t, { kms: renaming(kms), store, fields: ['body.*'] });
  await threads.createThread({ threadId: 't' });
  const one = JSON.stringify({ _enc: 'gcm1', k: 'k_short', v: 'v'.repeat(40) }).length + '"n100000":,["n100000"],'.length;
  const length = Math.floor((MAX_STORED_VALUE_BYTES * 0.98) / one);
  const body = Object.fromEntries(Array.from({ length }, (_, i) => [`n${100_000 + i}`, i % 10]));
  await threads.append('t', { body });
  const other = await threads.append('t', { body: { a: 'as it was' } });
  const job = await rotated(threads, 't');
  t.deepEqual([job.state, job.moved, job.blockedBy], ['done', 2, []]);
  t.true(await reads(threads, [body, { a: 'as it was' }]));
  const [large, small] = [...(await entriesOf(store))].filter(([key]) => key.startsWith('thread:t:msg:')) as [
    [string, string],
    [string, string],
  ];
  t.deepEqual(JSON.parse(large[1]).enc, { format: 1, at: [[]], policy: ['body.*'] });
  t.deepEqual(JSON.parse(small[1]).enc, { format: 1, at: [['a']], policy: ['body.*'] });
  t.true(large[1].length < MAX_STORED_VALUE_BYTES);
  // Of what is sealed otherwise than before, no backup is kept.
  t.deepEqual(await threads.restoreBackup(job.jobId), { restored: 1, changed: 0 });
  t.deepEqual((await threads.read('t', other.messageId))?.body, { a: 'as it was' });
  t.is((await encrypted(threads, 't')).state, 'done');
});

/** Names the first key of a thread as briefly as an import may: for the rest the keys are what they are. */
function renaming(kms: EmbeddedKms): EmbeddedKms {
  let real = '';
  const known = (keyId: unknown) => (keyId === 'k_short' ? real : keyId);
  return new Proxy(kms, {
    get(target, name) {
      const member = target[name as keyof EmbeddedKms];
      if (typeof member !== 'function') return member;
      return async (first: unknown, ...rest: unknown[]) => {
        const result = await (member as (...args: unknown[]) => unknown).call(target, known(first), ...rest);
        if (name !== 'createDekForThread' || real !== '') return result;
        real = (result as { keyId: string }).keyId;
        return { ...(result as object), keyId: 'k_short' };
      };
    },
  });
}

test.serial('what another wrote, and is too long to be encrypted, is named, and all the others are', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  const plain = await openThreads({ store });
  await plain.createThread({ threadId: 't' });
  const { messageId } = await plain.append('t', { body: 'short' });
  const key = `thread:t:msg:${messageId.slice(4)}`;
  const [text] = await store.get([key]);
  const long = Buffer.from(
    Buffer.from(text as Uint8Array)
      .toString()
      .replace('short', 'y'.repeat(10_000_000)),
  );
  await store.commit([{ expect: [], put: [{ key, value: long }], remove: [] }]);
  await plain.append('t', { body: 'another' });
  const threads = await opened(t, { kms, store });
  const job = await encrypted(threads, 't');
  t.is(job.state, 'blocked');
  t.deepEqual(job.blockedBy, [{ messageId, reason: `encrypted, it is more than ${MAX_STORED_VALUE_BYTES} bytes` }]);
  t.is(job.moved, 1);
  await threads.delete('t', messageId);
  await threads.resumeJob(job.jobId);
  t.is((await threads.waitForJob(job.jobId)).state, 'done');
});

test('values below a name of megabytes are refused before their names are made', async (t) => {
  const threads = await opened(t, { kms: await embedded(t), store: openMemoryThreadStore(), fields: ['body.*.*'] });
  await threads.createThread({ threadId: 't' });
  const many = Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [`n${i}`, 1]));
  await t.throwsAsync(threads.append('t', { body: { ['k'.repeat(4_000_000)]: many } }), { code: 'TOO_LARGE' });
});
