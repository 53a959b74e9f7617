import { setImmediate as turn } from 'node:timers/promises';
import test from 'ava';
import { CommitQueue } from '../../dist/store/commit-queue.js';
import type { Unit } from '../../dist/store/entries.js';
import { putting } from '../threads/store-contract.js';

/** A queue whose store says what was done, in order; each step takes a turn. */
function observed({ failing = () => false }: { failing?: () => boolean } = {}) {
  const log: string[] = [];
  const queue = new CommitQueue<Unit, boolean>({
    bytesOf: ({ put }) => put.reduce((sum, { value }) => sum + value.length, 0),
    async write(change) {
      await turn();
      const result = change();
      await turn();
      if (failing()) throw new Error('the disk is full');
      log.push('|');
      return result;
    },
    apply({ put }) {
      log.push(put[0]!.key);
      return put[0]!.key !== 'refused';
    },
    async compact() {
      log.push('<');
      await turn();
      if (failing()) throw new Error('the disk is full');
      log.push('>');
    },
  });
  return { queue, log };
}

test('all who commit in one turn share a transaction, and those who come while it is written the next', async (t) => {
  const { queue, log } = observed();
  const first = ['a', 'b', 'c'].map((key) => queue.commit([putting([key, '1'])]));
  await turn();
  await turn();
  const second = ['d', 'refused'].map((key) => queue.commit([putting([key, '1']), putting([key, '2'])]));
  t.deepEqual(await Promise.all([...first, ...second]), [[true], [true], [true], [true, true], [false, false]]);
  t.is(log.join(''), 'abc|ddrefusedrefused|');
});

test('a transaction is bounded, in units and in bytes, and a call is never divided', async (t) => {
  const { queue, log } = observed();
  const many = Array.from({ length: 3_000 }, () => putting(['m', '']));
  const large = putting(['L', 'x'.repeat(5 * 1024 * 1024)]);
  await Promise.all([
    queue.commit(many),
    queue.commit(many),
    queue.commit([large, large]),
    queue.commit([large]),
    queue.commit([]),
  ]);
  t.is(
    log.join('').replaceAll(/m+/g, (run) => `${run.length} `),
    '3000 |3000 |LL|L|',
  );
});

test('a compaction comes after what was committed before it was asked for, and is shared by those who ask while one runs', async (t) => {
  const { queue, log } = observed();
  const work = [queue.commit([putting(['a', '1'])]), queue.compact(), queue.commit([putting(['b', '1'])])];
  while (!log.includes('<')) await turn();
  for (let i = 0; i < 10; i += 1) work.push(queue.compact());
  work.push(queue.commit([putting(['c', '1'])]));
  await Promise.all(work as Array<Promise<unknown>>);
  t.is(log.join(''), 'ab|<>c|<>');
});

test('a failure is told to those whom it concerns, and the others go on', async (t) => {
  let isFull = true;
  const { queue, log } = observed({ failing: () => isFull });
  const lost = await Promise.allSettled([
    queue.commit([putting(['a', '1'])]),
    queue.commit([putting(['b', '1'])]),
    queue.compact(),
  ]);
  t.deepEqual(
    lost.map(({ status }) => status),
    ['rejected', 'rejected', 'rejected'],
  );
  isFull = false;
  t.deepEqual(await queue.commit([putting(['c', '1'])]), [true]);
  await queue.compact();
  t.is(log.join(''), 'ab<c|<>');
});

test('one whose transactions do not even begin refuses what waits', async (t) => {
  const queue = new CommitQueue<Unit, boolean>({
    bytesOf: ({ put }) => put.reduce((sum, { value }) => sum + value.length, 0),
    write: () => Promise.reject(new Error('cannot be opened')),
    apply: () => true,
    compact: () => Promise.resolve(),
  });
  await t.throwsAsync(() => queue.commit([putting(['a', '1'])]), { message: 'cannot be opened' });
  await queue.compact();
  await queue.idle();
});
