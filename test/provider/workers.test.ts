import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import { binding } from '../../dist/native.js';
import { PLAIN, same } from './methods.js';
import { openMemory } from './subjects.js';

const PROGRAM = new URL('./worker.js', import.meta.url);

function start(rounds: number): Worker {
  return new Worker(PROGRAM, { workerData: { rounds } });
}

async function message(worker: Worker): Promise<Record<string, unknown>> {
  return (await once(worker, 'message'))[0] as Record<string, unknown>;
}

test.serial('threads with providers of their own share one arena and do not disturb one another', async (t) => {
  const kms = await openMemory(t);
  const { keyId } = await kms.createDek();
  const { ciphertext } = await kms.encryptWithDek(keyId, PLAIN);
  const { used } = binding.arenaInfo();
  const workers = [start(3_000), start(3_000)];
  t.deepEqual(await Promise.all(workers.map(message)), [{ ready: true }, { ready: true }]);
  t.true(binding.arenaInfo().used > used, 'their keys are in the arena that this thread sees');
  const results = workers.map(message);
  const ends = workers.map((worker) => once(worker, 'exit'));
  let open = true;
  void Promise.all(ends).then(() => {
    open = false;
  });
  while (open) {
    for (let i = 0; i < 50; i += 1) t.true(same(kms.decryptSync(keyId, kms.encryptSync(keyId, PLAIN)), PLAIN));
    await new Promise((resolve) => setImmediate(resolve));
  }
  for (const result of await Promise.all(results)) t.like(result, { wrong: 0 });
  for (const [code] of await Promise.all(ends)) t.is(code, 0);
  t.is(binding.arenaInfo().used, used, 'theirs are gone');
  t.true(same(await kms.decryptWithDek(keyId, ciphertext), PLAIN), 'ours are not');
});

test.serial('a thread that is ended in the middle of its work takes nothing of the others with it', async (t) => {
  const kms = await openMemory(t);
  const keys = await Promise.all(Array.from({ length: 20 }, () => kms.createDek()));
  const sealed = keys.map(({ keyId }) => kms.encryptSync(keyId, PLAIN));
  const staying = start(2_000);
  await message(staying);
  const result = message(staying);
  for (let i = 0; i < 5; i += 1) {
    const worker = start(Number.POSITIVE_INFINITY);
    await message(worker);
    await worker.terminate();
    for (const [at, { keyId }] of keys.entries()) t.true(same(kms.decryptSync(keyId, sealed[at]!), PLAIN));
  }
  t.like(await result, { wrong: 0 });
  t.is(kms.cachedKeys, 20);
  const { keyId } = await kms.createDek();
  t.true(same(kms.decryptSync(keyId, kms.encryptSync(keyId, PLAIN)), PLAIN));
});
