import test from 'ava';
import { openMemoryThreadStore } from '../../dist/threads/memory-store.js';
import type { Threads } from '../../dist/threads/threads.js';
import { bytesOf, newStorePath, openedLmdb } from './lmdb-ground.js';
import { counted, embedded, encrypted, entriesOf, opened } from './threads-ground.js';

async function plain(threads: Threads, count: number): Promise<string[]> {
  const ids = Array.from({ length: count }, (_, i) => `t${i}`);
  for (const threadId of ids) {
    await threads.createThread({ threadId });
    for (let i = 0; i < 40; i += 1) await threads.append(threadId, { body: `secret text of ${threadId}`.repeat(20) });
  }
  return ids;
}

test('many threads are encrypted with one compaction at the end', async (t) => {
  const kms = await embedded(t);
  const { target: store, counts } = counted(openMemoryThreadStore());
  const ids = await plain(await opened(t, { store }), 5);
  const threads = await opened(t, { kms, store });
  for (const threadId of ids) t.is((await encrypted(threads, threadId, { defersCompaction: true })).state, 'done');
  t.is(counts['compact'], undefined);
  t.true(await threads.compactStore());
  t.is(counts['compact'], 1);
  t.false(await threads.compactStore(), 'nothing is owed any more');
  t.is(counts['compact'], 1);
  t.false([...(await entriesOf(store)).keys()].includes('kms:compaction'));
  await encrypted(threads, 't0');
  t.is(counts['compact'], 2, 'one that does not defer it does it itself');
});

test('plaintext that a process has left in the bytes of the store, which died before it compacted, goes with the next start', async (t) => {
  const kms = await embedded(t);
  const path = newStorePath(t);
  const store = await openedLmdb(t, path);
  const ids = await plain(await opened(t, { store }), 2);
  const isThere = () => bytesOf(path).some((bytes) => bytes.includes('secret text of t'));
  const threads = await opened(t, { kms, store });
  for (const threadId of ids) await encrypted(threads, threadId, { defersCompaction: true });
  t.true(isThere(), 'it would be found');
  await threads.close();
  await opened(t, { kms, store });
  t.false(isThere());
});

test('a compaction that somebody comes to owe while one runs is not forgotten', async (t) => {
  const kms = await embedded(t);
  const inner = openMemoryThreadStore();
  let during = async () => {};
  let compactions = 0;
  const store = new Proxy(inner, {
    get(target, name) {
      if (name !== 'compact') {
        const member = target[name as keyof typeof target];
        return typeof member === 'function' ? member.bind(target) : member;
      }
      return async () => {
        compactions += 1;
        const work = during;
        during = async () => {};
        await work();
      };
    },
  });
  const [one, two] = (await plain(await opened(t, { store }), 2)) as [string, string];
  const threads = await opened(t, { kms, store });
  await encrypted(threads, one, { defersCompaction: true });
  during = async () => void (await encrypted(threads, two, { defersCompaction: true }));
  t.true(await threads.compactStore());
  t.true(await threads.compactStore());
  t.is(compactions, 2);
});

test('plaintext that a job has left in the bytes of the store, which was cancelled, goes with the next start', async (t) => {
  const kms = await embedded(t);
  const path = newStorePath(t);
  const store = await openedLmdb(t, path);
  const [threadId] = (await plain(await opened(t, { store }), 1)) as [string];
  const plaintextOf = async () =>
    [...(await entriesOf(store))].filter(([key, text]) => key.includes(':msg:') && text.includes('secret text')).length;
  const threads = await opened(t, { kms, store });
  const { jobId } = await threads.encryptExisting(threadId, { messagesPerSecond: 1 });
  while ((await threads.job(jobId)).moved === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  await threads.cancelJob(jobId);
  const left = await plaintextOf();
  t.true(left > 0 && left < 40, 'it was cancelled in the middle');
  // Those that were not encrypted are there for all to see, and no compaction would change that.
  for (const { messageId } of (await threads.list(threadId)).messages) await threads.delete(threadId, messageId);
  const isThere = () => bytesOf(path).some((bytes) => bytes.includes('secret text of t'));
  t.true(isThere(), 'it would be found');
  await threads.close();
  await opened(t, { kms, store });
  t.false(isThere());
});
