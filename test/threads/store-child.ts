import { writeSync } from 'node:fs';
import { KmsError } from '../../dist/errors.js';
import { openLmdbThreadStore } from '../../dist/threads/lmdb-store.js';
import type { ThreadStore } from '../../dist/threads/thread-store.js';
import { counterKey, filled, halves } from './store-load.js';

// A process that writes into a store until it is killed, and says what was acknowledged: a line is written before the next step.
// Not by `console.log`, which keeps lines in this process while nobody reads: a kill would take what was told.
const say = (line: string) => writeSync(1, `${line}\n`);

async function write(store: ThreadStore, caller: number, most: number): Promise<void> {
  const key = counterKey(caller);
  const [found] = await store.get([key]);
  for (let n = found === undefined ? 0 : Number(Buffer.from(found).toString()); n < most; n += 1) {
    const value = n === 0 ? undefined : Buffer.from(String(n));
    const put = [
      { key, value: Buffer.from(String(n + 1)) },
      ...halves(caller, n + 1).map((half) => ({ key: half, value: filled(n + 1) })),
    ];
    const [isMade] = await store.commit([{ expect: [{ key, value }], put, remove: halves(caller, n - 50) }]);
    if (!isMade) throw new Error(`caller ${caller} did not find ${n}`);
    say(`made ${caller} ${n + 1}`);
  }
}

async function compact(store: ThreadStore): Promise<void> {
  for (;;) {
    say('compacting');
    await store.compact();
    say('compacted');
  }
}

const [life, path, callers, most = 'Infinity'] = process.argv.slice(2) as [string, string, string, string?];
try {
  const store = await openLmdbThreadStore(path);
  const work = Array.from({ length: Number(callers) }, (_, caller) => write(store, caller, Number(most)));
  if (life === 'compact') work.push(compact(store));
  await Promise.all(work);
  await store.close();
} catch (error) {
  if (!(error instanceof KmsError)) throw error;
  say(`refused ${error.code}`);
  process.exitCode = 3;
}
