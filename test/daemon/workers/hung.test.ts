import { Session } from 'node:inspector';
import { promisify } from 'node:util';
import type { Worker } from 'node:worker_threads';
import test from 'ava';
import { WORKER_HUNG_SWEEPS, WORKER_QUIET_SWEEPS } from '../../../dist/limits.js';
import { OP } from '../../../dist/wire/frames.js';
import { running } from '../running.js';
import { settled } from './settled.js';

/** Keeps the thread busy for ever, as a defect could. */
async function hang(worker: Worker): Promise<void> {
  const session = new Session();
  session.connect();
  const post = promisify(session.post.bind(session)) as (method: string, params: object) => Promise<unknown>;
  const attached = new Promise<string>((resolve) => {
    session.on('NodeWorker.attachedToWorker', ({ params: { sessionId, workerInfo } }) => {
      if (workerInfo.workerId === `${worker.threadId}`) resolve(sessionId);
    });
  });
  await post('NodeWorker.enable', { waitForDebuggerOnStart: false });
  const sessionId = await attached;
  const params = { expression: 'setImmediate(() => { for (;;); })' };
  await post('NodeWorker.sendMessageToWorker', {
    sessionId,
    message: JSON.stringify({ id: 1, method: 'Runtime.evaluate', params }),
  });
  await new Promise((resolve) => session.once('NodeWorker.receivedMessageFromWorker', resolve));
  session.disconnect();
}

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
  await hang(Reflect.get(hung!, 'worker') as Worker);
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
