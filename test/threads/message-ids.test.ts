import test, { type ExecutionContext } from 'ava';
import { openMemoryThreadStore } from '../../dist/threads/memory-store.js';
import type { Threads } from '../../dist/threads/threads.js';
import { OriginalServer } from './original-server.js';
import { counted, embedded, encrypted, opened, put, rotated } from './threads-ground.js';

const UNKNOWN = ['msg-01795902370433000000-000001', 'msg-1-1', 'nonsense'];

/** What it takes to be told that there is no such message. */
async function readsFor(t: ExecutionContext, threads: Threads, counts: Record<string, number>, messageId: string) {
  for (const name of Object.keys(counts)) delete counts[name];
  t.is(await threads.read('t', messageId), undefined);
  const { get = 0, range = 0 } = counts;
  for (const work of [threads.edit('t', messageId, 1), threads.versions('t', messageId), threads.delete('t', messageId)]) {
    await t.throwsAsync(work, { code: 'NOT_FOUND' });
  }
  return { get, range };
}

test('an id that names no message of a thread of ours is found out without a walk, with a key and without one', async (t) => {
  for (const kms of [await embedded(t), undefined]) {
    const { target, counts } = counted(openMemoryThreadStore());
    const threads = await opened(t, { ...(kms && { kms }), store: target });
    await threads.createThread({ threadId: 't' });
    for (let i = 0; i < 50; i += 1) await threads.append('t', { body: i });
    for (const messageId of UNKNOWN) {
      const { get, range } = await readsFor(t, threads, counts, messageId);
      t.true(get <= 2 && range === 0, `${messageId}: ${get} and ${range}`);
    }
  }
});

test('in a thread that is migrated, an id of ours leads to its place or nowhere, and only others are searched for', async (t) => {
  const kms = await embedded(t);
  const { target, counts } = counted(openMemoryThreadStore());
  const server = new OriginalServer(kms, target, 't');
  await server.createThread();
  for (let i = 0; i < 1_200; i += 1) await server.append(String(i));
  const threads = await opened(t, { kms, store: target });
  const [ours = ''] = UNKNOWN;
  t.true((await readsFor(t, threads, counts, ours)).range > 3, 'before it, any id may be anywhere');
  t.is((await rotated(threads, 't')).state, 'done');
  t.is((await readsFor(t, threads, counts, ours)).range, 0);
  t.true((await readsFor(t, threads, counts, 'nonsense')).range > 3);
});

test('what the original wrote is found by its versions, without a walk', async (t) => {
  const kms = await embedded(t);
  const { target, counts } = counted(openMemoryThreadStore());
  const server = new OriginalServer(kms, target, 't');
  await server.createThread();
  const made = [];
  for (let i = 0; i < 1_200; i += 1) made.push(await server.append(await server.envelope(String(i))));
  const threads = await opened(t, { kms, store: target });
  for (const name of Object.keys(counts)) delete counts[name];
  t.is((await threads.read('t', made[1_100]?.id as string))?.body, 1_100);
  t.is(counts['range'], 1);
});

test('what has no version is found all the same, however far back it is', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  const server = new OriginalServer(kms, store, 't');
  await server.createThread();
  for (let i = 0; i < 1_200; i += 1) await server.append(String(i));
  await put(store, { 'thread:t:msg:02712345678901234567-000001': '{"id":"brought-over","thread":"t","ts":1,"body":"found"}' });
  const threads = await opened(t, { kms, store });
  t.is((await threads.read('t', 'brought-over'))?.body, 'found');
  t.is((await rotated(threads, 't')).state, 'done');
  t.is((await threads.read('t', 'brought-over'))?.body, 'found');
});

test('with a key service, a thread without a key takes no plaintext: it is refused by name until a job has given it a key', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  const plain = await opened(t, { store });
  await plain.createThread({ threadId: 't' });
  const { messageId } = await plain.append('t', { body: 'before' });
  const threads = await opened(t, { kms, store });
  const refusal = { code: 'CONFLICT', message: /thread t has no key: encrypt-existing gives it one/ };
  for (const fields of [['body'], ['body.card'], []]) {
    const writer = await opened(t, { kms, store, fields });
    await t.throwsAsync(writer.append('t', { body: 'plain-text' }), refusal);
    await t.throwsAsync(writer.edit('t', messageId, 'plain-text'), refusal);
  }
  t.is((await threads.read('t', messageId))?.body, 'before', 'it is read');
  t.is((await plain.append('t', { body: 'later' })).body, 'later', 'who has no key service has said so');
  t.is((await encrypted(threads, 't')).state, 'done');
  t.is((await threads.edit('t', messageId, 'after')).body, 'after');
  t.is((await threads.append('t', { body: 'more' })).body, 'more');
  const text = (await store.range({ from: '', to: '\x7f', limit: 1_000 }))
    .map(({ value }) => Buffer.from(value).toString())
    .join();
  for (const word of ['plain-text', 'before', 'later', 'after', 'more']) t.false(text.includes(`"${word}"`), word);
});

test('in a thread without a key, with a key service, messages are deleted', async (t) => {
  const store = openMemoryThreadStore();
  const plain = await opened(t, { store });
  await plain.createThread({ threadId: 't' });
  const { messageId } = await plain.append('t', { body: 'before' });
  const threads = await opened(t, { kms: await embedded(t), store });
  await threads.delete('t', messageId);
  t.true((await threads.read('t', messageId))?.isDeleted);
});
