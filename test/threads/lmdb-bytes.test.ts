import test from 'ava';
import { bytesOf, newStorePath, openedLmdb } from './lmdb-ground.js';
import { bytes, putting, removing } from './store-contract.js';

const MARK = 'REMOVED-';

function marks(path: string): number {
  let found = 0;
  for (const file of bytesOf(path)) for (let at = file.indexOf(MARK); at >= 0; at = file.indexOf(MARK, at + 1)) found += 1;
  return found;
}

function key(i: number): string {
  return `k${String(i).padStart(6, '0')}`;
}

/** Small ones of which a page has many, and some with pages of their own. */
function value(kind: string, i: number): string {
  return kind.repeat(i % 13 === 0 ? 2_000 : 1 + (i % 11));
}

test('after a compaction nothing of what was removed or replaced is in the bytes of the store', async (t) => {
  const path = newStorePath(t);
  const store = await openedLmdb(t, path);
  const all = Array.from({ length: 2_000 }, (_, i) => i);
  for (let from = 0; from < all.length; from += 200) {
    await store.commit(all.slice(from, from + 200).map((i) => putting([key(i), value(i % 3 === 0 ? 'KEPT----' : MARK, i)])));
  }
  for (const i of all.filter((n) => n % 3 === 1)) await store.commit([removing(key(i))]);
  await store.commit(all.filter((n) => n % 3 === 2).map((i) => putting([key(i), 'KEPT'])));
  // In one transaction the second takes the pages of the first, and leaves its end in the last of them.
  await store.commit([putting(['large', MARK.repeat(1_000)]), putting(['large', 'KEPT----'.repeat(900)])]);
  t.true(marks(path) > 1_000, 'they are there before, and are found');
  await store.compact();
  t.is(marks(path), 0);
  // Nor do they come back from memory that has held them.
  await store.commit(all.map((i) => putting([`${key(i)}x`, value('KEPT----', i)])));
  await store.commit(all.map((i) => removing(`${key(i)}x`)));
  t.is(marks(path), 0);
  const found = await store.range({ from: 'k', to: 'l', limit: 5_000 });
  t.deepEqual(
    found.map((entry) => [entry.key, Buffer.from(entry.value).toString()]),
    all.filter((i) => i % 3 !== 1).map((i) => [key(i), i % 3 === 0 ? value('KEPT----', i) : 'KEPT']),
  );
});

function kept(i: number): string {
  return `value ${i} ${'.'.repeat(700)}`;
}

test('who reads or writes while a compaction runs finds everything, and nothing of it is lost', async (t) => {
  const store = await openedLmdb(t, newStorePath(t));
  const all = Array.from({ length: 3_000 }, (_, i) => i);
  await store.commit(all.map((i) => putting([key(i), kept(i)])));
  let isOver = false;
  let reads = 0;
  const reading = async () => {
    while (!isOver) {
      const i = reads % 3_000;
      reads += 1;
      const [one] = await store.get([key(i)]);
      if (Buffer.compare(one!, bytes(kept(i))) !== 0) throw new Error('another value');
      const { length } = await store.range({ from: key(100), to: key(200), limit: 1_000 });
      if (length !== 100) throw new Error(`${length} of 100`);
      await new Promise(setImmediate);
    }
  };
  const writing = async () => {
    let n = 0;
    for (; !isOver; n += 1) if (!(await store.commit([putting([`w${n}`, ''])]))[0]) throw new Error('not made');
    return n;
  };
  const work = Promise.all([reading(), reading(), writing()]);
  for (let round = 0; round < 4; round += 1) await store.compact();
  isOver = true;
  const [, , written] = await work;
  t.true(reads > 0 && written > 0);
  t.is((await store.range({ from: 'w', to: 'x', limit: 100_000 })).length, written);
});
