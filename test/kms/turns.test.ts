import test from 'ava';
import { K1, openOn, STORES } from './stores.js';

const KEYS = 200;

/** How often others had their turn while it was done. */
async function turnsDuring(work: () => Promise<unknown>): Promise<number> {
  let turns = 0;
  let isDone = false;
  const turn = () => {
    if (isDone) return;
    turns += 1;
    setImmediate(turn);
  };
  setImmediate(turn);
  await work();
  isDone = true;
  return turns;
}

async function exhausted(all: AsyncIterable<unknown>): Promise<void> {
  for await (const _one of all);
}

// A store of files leaves the turn with every record that it reads.
for (const [name, open] of STORES) {
  test(`others have their turns while all keys are listed, verified, and read for a backup, ${name}`, async (t) => {
    const kms = await openOn(t, await open(t), K1);
    for (let made = 0; made < KEYS; made += 50) await Promise.all(Array.from({ length: 50 }, () => kms.createDek()));
    const snapshot = kms.snapshot();
    t.teardown(() => snapshot.release());
    const works = [
      () => kms.listKeys({ threadId: 'no-such-thread' }),
      () => exhausted(kms.verifyRecords()),
      () => exhausted(snapshot.records()),
    ];
    for (const work of works) t.true((await turnsDuring(work)) >= KEYS / 50);
  });
}

test('a listing that passes over very many keys says where it goes on, and the next one ends', async (t) => {
  const kms = await openOn(t, await STORES[1]![1](t), K1);
  for (let made = 0; made < 5_000; made += 500) await Promise.all(Array.from({ length: 500 }, () => kms.createDek()));
  const first = await kms.listKeys({ threadId: 'no-such-thread' });
  t.is(first.keys.length, 0);
  t.regex(first.next ?? '', /^k_/);
  const second = await kms.listKeys({ threadId: 'no-such-thread', cursor: first.next! });
  t.deepEqual(second, { keys: [], next: null });
});
