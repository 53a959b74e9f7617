// Cold starts, and decryptions by an embedded provider whose keys are cached or not.
import { execFile } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { stopWorker } from '../processes.js';
import { BENCH } from '../programs.js';
import { median } from '../statistics.js';
import { keysWorker } from './creating.js';
import { arenaFor, coldDaemon } from './daemon-process.js';
import { dropCaches } from './disk.js';
import { CACHED_KEYS, HOT_KEYS } from './plan.js';

/** Hardly any message finds its key. */
const FEW_KEYS = 16;

const execute = promisify(execFile);

async function coldStart(run, home, { store, keys }) {
  const options = { store, dataDir: join(home, 'data'), masterKeyFile: join(home, 'master.key') };
  const started = performance.timeOrigin + performance.now();
  const order = { product: run.product, options, sealed: join(home, 'sealed'), index: randomInt(keys), started };
  const { stdout } = await execute(process.execPath, [join(BENCH, 'scale/cold-start.js'), JSON.stringify(order)]);
  return JSON.parse(stdout);
}

const medians = (taken) => Object.fromEntries(Object.keys(taken[0]).map((name) => [name, median(taken.map((one) => one[name]))]));

/** `warm`: the files are in the kernel's memory; `cold`: nothing of them is. */
export async function measureColdStarts(run, plan, home, place) {
  const [warm, cold, daemon] = [[], [], []];
  for (let i = 0; i < plan.coldStarts; i++) {
    warm.push(await coldStart(run, home, place));
    dropCaches(join(home, 'data'));
    cold.push(await coldStart(run, home, place));
    daemon.push({ seconds: await coldDaemon({ home, store: place.store, cachedKeys: CACHED_KEYS }) });
    run.say(`${place.store}, ${place.keys} keys: cold start ${i + 1} of ${plan.coldStarts}`);
  }
  return { warm: medians(warm), cold: medians(cold), daemonSeconds: medians(daemon).seconds };
}

async function blocksOf(worker, message, count) {
  const taken = [];
  for (let i = 0; i < count; i++) taken.push(await worker.ask(message));
  return median(taken.map(({ ns }) => ns));
}

async function withWorker(run, home, options, use) {
  const worker = await keysWorker(run, home, options);
  try {
    return await use(worker);
  } finally {
    await worker.ask({ close: true });
    await stopWorker(worker);
  }
}

export async function measureDecrypts(run, plan, home, { store, keys }) {
  run.say(`${store}, ${keys} keys: decrypts in one process`);
  const roomy = { store, cachedKeys: CACHED_KEYS, arenaBytes: arenaFor(CACHED_KEYS), keyIdleMs: 0 };
  const hot = Math.min(keys, HOT_KEYS);
  const cached = await withWorker(run, home, roomy, async (worker) => {
    const atOpen = await worker.ask({ memory: true });
    await worker.ask({ touch: Math.min(keys, CACHED_KEYS) });
    const memory = await worker.ask({ memory: true });
    await worker.ask({ touch: hot });
    const warmNs = await blocksOf(worker, { decrypt: hot }, plan.decryptBlocks);
    const first = await worker.ask({ encryptFirst: Math.min(keys, plan.firstEncrypts) });
    const firstEncrypts = { perSecond: first.keys / first.seconds, cpuNs: (first.cpuSeconds / first.keys) * 1e9 };
    return { memoryAtOpen: atOpen, memory, warmNs, firstEncrypts };
  });
  const coldNs = await withWorker(run, home, { ...roomy, cachedKeys: FEW_KEYS }, (worker) =>
    blocksOf(worker, { decrypt: keys }, plan.decryptBlocks),
  );
  return { ...cached, coldNs };
}
