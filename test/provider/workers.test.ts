import { Worker } from 'node:worker_threads';
import test from 'ava';
import { binding } from '../../dist/native.js';
import { PLAIN, same } from './methods.js';
import { openMemory } from './subjects.js';

const PROGRAM = new URL('./worker.js', import.meta.url);

type Said = Record<string, unknown>;

/** The message with that member, undefined if the thread ends without one. */
function said(worker: Worker, member: string): Promise<Said | undefined> {
  return new Promise((resolve) => {
    worker.on('message', (message: Said) => {
      if (member in message) resolve(message);
    });
    worker.on('exit', () => resolve(undefined));
  });
}

/** A thread that begins its work at `go`. It is listened to from its making on: what came before a listener would be lost. */
function start(rounds: number) {
  const worker = new Worker(PROGRAM, { workerData: { rounds } });
  return {
    ready: said(worker, 'ready'),
    result: said(worker, 'wrong'),
    ended: new Promise<number>((resolve) => worker.on('exit', resolve)),
    go: () => worker.postMessage('go'),
    terminate: () => worker.terminate(),
  };
}

test.serial('threads with providers of their own share one arena and do not disturb one another', async (t) => {
  const kms = await openMemory(t);
  const { keyId } = await kms.createDek();
  const { ciphertext } = await kms.encryptWithDek(keyId, PLAIN);
  const { used } = binding.arenaInfo();
  const workers = [start(3_000), start(3_000)];
  t.deepEqual(await Promise.all(workers.map(({ ready }) => ready)), [{ ready: true }, { ready: true }]);
  t.true(binding.arenaInfo().used > used, 'their keys are in the arena that this thread sees');
  const ends = Promise.all(workers.map(({ ended }) => ended));
  let open = true;
  void ends.then(() => {
    open = false;
  });
  for (const worker of workers) worker.go();
  while (open) {
    for (let i = 0; i < 50; i += 1) t.true(same(kms.decryptSync(keyId, kms.encryptSync(keyId, PLAIN)), PLAIN));
    await new Promise((resolve) => setImmediate(resolve));
  }
  for (const { result } of workers) t.like(await result, { wrong: 0 });
  t.deepEqual(await ends, [0, 0]);
  t.is(binding.arenaInfo().used, used, 'theirs are gone');
  t.true(same(await kms.decryptWithDek(keyId, ciphertext), PLAIN), 'ours are not');
});

test.serial('a thread that is ended in the middle of its work takes nothing of the others with it', async (t) => {
  const kms = await openMemory(t);
  const keys = await Promise.all(Array.from({ length: 20 }, () => kms.createDek()));
  const sealed = keys.map(({ keyId }) => kms.encryptSync(keyId, PLAIN));
  const staying = start(2_000);
  t.deepEqual(await staying.ready, { ready: true });
  staying.go();
  for (let i = 0; i < 5; i += 1) {
    const worker = start(Number.POSITIVE_INFINITY);
    t.deepEqual(await worker.ready, { ready: true });
    worker.go();
    await worker.terminate();
    for (const [at, { keyId }] of keys.entries()) t.true(same(kms.decryptSync(keyId, sealed[at]!), PLAIN));
  }
  t.like(await staying.result, { wrong: 0 });
  t.is(kms.cachedKeys, 20);
  const { keyId } = await kms.createDek();
  t.true(same(kms.decryptSync(keyId, kms.encryptSync(keyId, PLAIN)), PLAIN));
});
