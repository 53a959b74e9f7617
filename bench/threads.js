// How fast the messages of a thread are moved to a new key: by an application with the key service in its process and by one with a
// daemon, with the backups that a job keeps unless told otherwise, and without.
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { startWorker, stopWorker, writeMasterKey } from './processes.js';
import { BENCH } from './programs.js';
import { startDaemon, withServers } from './servers.js';
import { median } from './statistics.js';

const BODY_BYTES = 1024;
/** Of one process each: the first is made by code that nothing has warmed up. */
const ROTATIONS = 3;
const PLANS = {
  full: { messages: 20_000, long: 100_000, turns: 3 },
  quick: { messages: 5_000, long: 20_000, turns: 1 },
};
const BACKUPS_MS = { with: 7 * 24 * 3_600_000, without: 0 };
const WAYS = ['embedded', 'daemon'].flatMap((way) => Object.keys(BACKUPS_MS).map((backups) => ({ way, backups })));

const beside = (product, path) => new URL(path, product).href;

/** Rotations of a fresh thread by a fresh process, one after another. */
async function rotations(run, socket, { way, backups }, messages, count) {
  const home = mkdtempSync(join(run.scratch, 'threads-'));
  const connect =
    way === 'daemon'
      ? { library: beside(run.product, 'client/index.js'), socket }
      : { library: run.product, dataDir: join(home, 'data'), masterKeyFile: writeMasterKey(home) };
  const threads = beside(run.product, 'threads/index.js');
  const order = { threads, connect, store: join(home, 'threads'), messages, bodyBytes: BODY_BYTES };
  const worker = await startWorker(join(BENCH, 'threads-worker.js'), [JSON.stringify(order)]);
  try {
    const done = [];
    for (let nth = 0; nth < count; nth++) done.push(await worker.ask({ rotate: BACKUPS_MS[backups] }));
    await worker.ask({ close: true });
    return done;
  } finally {
    await stopWorker(worker);
  }
}

export async function measureThreads(run) {
  if (!run.product) return undefined;
  const { messages, long, turns } = run.quick ? PLANS.quick : PLANS.full;
  return withServers({ daemon: () => startDaemon(run.scratch) }, async ({ daemon: { socket } }) => {
    const taken = WAYS.map(() => []);
    for (let turn = 0; turn < turns; turn++) {
      for (const [at, way] of WAYS.entries()) taken[at].push(await rotations(run, socket, way, messages, ROTATIONS));
      run.say(`threads: turn ${turn + 1} of ${turns}`);
    }
    const ways = WAYS.map((way, at) => ({
      ...way,
      firstPerSecond: median(taken[at].map(([first]) => first.perSecond)),
      perSecond: median(taken[at].flat().map(({ perSecond }) => perSecond)),
      peakBytes: Math.max(...taken[at].flat().map(({ peakBytes }) => peakBytes)),
    }));
    const [{ perSecond, peakBytes }] = await rotations(run, socket, WAYS[0], long, 1);
    return { bodyBytes: BODY_BYTES, messages, ways, long: { messages: long, perSecond, peakBytes } };
  });
}
