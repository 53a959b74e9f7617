import test from 'ava';
import { openMemoryThreadStore } from '../../dist/threads/memory-store.js';
import { allMessages, counted, embedded, encrypted, opened, rotated } from './threads-ground.js';

const COUNT = 1_000;

test('a thousand messages are listed, rotated and encrypted with a handful of requests to the key service', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  const plain = await opened(t, { store });
  await plain.createThread({ threadId: 't' });
  await Promise.all(Array.from({ length: COUNT }, (_, i) => plain.append('t', { body: { a: `a-${i}`, b: 'b' } })));
  const { target, counts } = counted(kms);
  const threads = await opened(t, { kms: target, store, fields: ['body.a', 'body.b'] });
  const used = () => {
    const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
    for (const name of Object.keys(counts)) counts[name] = 0;
    return total;
  };
  t.is((await encrypted(threads, 't')).moved, COUNT);
  t.true(used() <= 12);
  const first = await threads.list('t', { limit: COUNT });
  t.is(first.messages.length, COUNT);
  t.true(first.messages.every(({ error }) => error === null));
  t.deepEqual(used(), 1);
  t.is((await rotated(threads, 't')).moved, COUNT);
  t.true(used() <= 20);
  t.deepEqual(
    (await allMessages(threads, 't')).map(({ body }) => body),
    first.messages.map(({ body }) => body),
  );
});

test('a rotation has few commits, each of many messages', async (t) => {
  const kms = await embedded(t);
  const { target: store, counts } = counted(openMemoryThreadStore());
  const threads = await opened(t, { kms, store });
  await threads.createThread({ threadId: 't' });
  await Promise.all(Array.from({ length: COUNT }, (_, i) => threads.append('t', { body: i })));
  counts['commit'] = 0;
  await rotated(threads, 't');
  t.true((counts['commit'] as number) <= 20, `${counts['commit']}`);
});
