import { readdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { openLmdbThreadStore } from '../../dist/threads/lmdb-store.js';
import { Child } from '../crash/child.js';
import { newSeed, randomFrom } from '../crash/random.js';
import { FILES, newStorePath } from './lmdb-ground.js';
import { faultsOf } from './store-load.js';

const CALLERS = 16;

/** Kills a process of that life, `rounds` times on one store; what was told must be there each time. */
async function killed(t: ExecutionContext, life: string, rounds: number, mark: string): Promise<void> {
  const path = newStorePath(t);
  const seed = newSeed();
  t.log(`TEST_SEED=${seed}`);
  const random = randomFrom(seed);
  const made = new Map(Array.from({ length: CALLERS }, (_, caller) => [caller, 0]));
  let marks = 0;
  for (let round = 0; round < rounds; round += 1) {
    const child = new Child([resolve('dist-test/threads/store-child.js'), life, path, String(CALLERS)]);
    const begun = new Promise<void>((found) => {
      child.onLine = (line) => {
        if (line === mark) marks += 1;
        const [, caller, n] = /^made (\d+) (\d+)$/.exec(line) ?? [];
        if (caller !== undefined) made.set(Number(caller), Number(n));
        // The first life goes on until all callers have written, however slow that is.
        const isAwaited = round > 0 || [...made.values()].every((n) => n > 0);
        if (isAwaited && line.startsWith(mark)) found();
      };
    });
    await Promise.race([begun, child.ended]);
    await delay(random() * 250);
    await child.kill();
    t.is(child.errors, '', `round ${round}`);
    const store = await openLmdbThreadStore(path);
    try {
      t.deepEqual(await faultsOf(store, made), [], `round ${round}`);
      for (const caller of made.keys()) {
        const [counter] = await store.get([`counter:${caller}`]);
        made.set(caller, counter === undefined ? 0 : Number(Buffer.from(counter).toString()));
      }
    } finally {
      await store.close();
    }
    t.deepEqual(readdirSync(path).sort(), FILES, `round ${round}`);
  }
  t.log(`${[...made.values()].reduce((sum, n) => sum + n)} units, ${marks} × ${mark}`);
  t.true([...made.values()].every((n) => n > 0));
}

test.serial('a process that is killed while it writes loses nothing that it was told is there', async (t) => {
  await killed(t, 'load', 8, 'made');
});

test.serial('a process that is killed while it compacts loses nothing, and leaves nothing behind', async (t) => {
  await killed(t, 'compact', 8, 'compacting');
});

test('a fault in the store would be found', async (t) => {
  const path = newStorePath(t);
  const child = new Child([resolve('dist-test/threads/store-child.js'), 'load', path, '2']);
  await new Promise<void>((found) => {
    child.onLine = (line) => {
      if (line === 'made 1 20') found();
    };
  });
  await child.kill();
  const store = await openLmdbThreadStore(path);
  try {
    const [counter] = await store.get(['counter:1']);
    const count = Number(Buffer.from(counter!).toString());
    const told = new Map([[1, count]]);
    t.deepEqual(await faultsOf(store, told), []);
    t.regex((await faultsOf(store, new Map([[1, count + 1]]))).join(), /told/, 'a lost unit');
    await store.commit([{ expect: [], put: [], remove: [`z:1:${count}`] }]);
    t.regex((await faultsOf(store, told)).join(), new RegExp(`unit ${count}`), 'half a unit');
  } finally {
    await store.close();
  }
});
