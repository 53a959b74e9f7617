import type { Worker } from 'node:worker_threads';
import test from 'ava';
import { WORKER_HUNG_SWEEPS, WORKER_QUIET_SWEEPS } from '../../../dist/limits.js';
import { OP } from '../../../dist/wire/frames.js';
import { running } from '../running.js';
import { settled } from '../settled.js';

test('a worker that does not answer is given nobody more, and is ended at last; another one takes its place', async (t) => {
  const run = await running(t, { dev: true }, { workers: 2 });
  const pool = run.daemon.workers!;
  const sizes = () => pool.threads.map((thread) => thread?.size);
  const greeted = async () => {
    const peer = await run.connect();
    await peer.ask(OP.hello, 1, null);
    return peer;
  };
  const [lost, kept] = [await greeted(), await greeted()];
  const [hung, other] = pool.threads;
  // Nothing that it says is heard: so it is with one that says nothing.
  (Reflect.get(hung!, 'worker') as Worker).removeAllListeners('message');
  const sweep = async () => {
    pool.sweep();
    await settled(() => Reflect.get(other!, 'unanswered') === 0);
  };
  for (let n = 0; n <= WORKER_QUIET_SWEEPS; n++) await sweep();
  await greeted();
  t.deepEqual(sizes(), [1, 2]);
  for (let n = 0; n < WORKER_HUNG_SWEEPS; n++) await sweep();
  await lost.closed;
  await settled(() => pool.size === 2);
  t.is(pool.threads[1], other);
  t.is(await kept.outcome(OP.createDek, null), 'OK');
  await greeted();
  t.deepEqual(sizes(), [1, 2]);
});
