import { Worker } from 'node:worker_threads';
import { type SpawnOptions, spawnKms } from '../../dist/client/index.js';

/** A service that starts a daemon, tells which, and then ends in one way or another. */
interface Job {
  options: SpawnOptions;
  /** Stays until it is killed, or ends without a word to the daemon. */
  then: 'stay' | 'exit' | 'throw' | 'end-worker';
}

const job = JSON.parse(process.argv[2]!) as Job;

async function begin(): Promise<void> {
  const { pid, socket } = await spawnKms(job.options);
  console.log(JSON.stringify({ pid, socket }));
  if (job.then === 'exit') process.exit(0);
  if (job.then === 'throw') setImmediate(() => Promise.reject(new Error('a fault of the service')));
}

if (job.then === 'end-worker') {
  const script = `
    const { workerData: { client, options }, parentPort } = require('node:worker_threads');
    import(client).then(({ spawnKms }) => spawnKms(options)).then(({ pid, socket }) => parentPort.postMessage({ pid, socket }));
  `;
  const client = new URL('../../dist/client/index.js', import.meta.url).href;
  const worker = new Worker(script, { eval: true, workerData: { client, options: job.options } });
  worker.once('message', async (told) => {
    await worker.terminate();
    console.log(JSON.stringify(told));
    // The daemon must go although this process stays.
    setInterval(() => {}, 60_000);
  });
} else {
  await begin();
}
