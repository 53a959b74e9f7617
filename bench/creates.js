// Durable creates through the daemon with the files store, by how many are under way: the disk's fsyncs set the rate.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { DRIVER_CORE, startWorker, stopWorker } from './processes.js';
import { BENCH, ROOT } from './programs.js';
import { startDaemon, withServers } from './servers.js';
import { median } from './statistics.js';
import { inTurns } from './turns.js';

const IN_FLIGHT = [1, 16, 64, 256, 1024];

const PLANS = {
  full: { turns: 3, seconds: 0.7 },
  quick: { turns: 1, seconds: 0.4 },
};

/** On a daemon of its own, whose directories these keys fill. */
export async function measureCreates(run) {
  const plan = run.quick ? PLANS.quick : PLANS.full;
  return withServers({ daemon: () => startDaemon(run.scratch) }, async ({ daemon }) => {
    const args = [daemon.socket, pathToFileURL(join(ROOT, 'dist/client/index.js')).href];
    const worker = await startWorker(join(BENCH, 'create-worker.js'), args, { core: DRIVER_CORE });
    try {
      await worker.ask({ inFlight: 64, seconds: plan.seconds });
      const loads = Object.fromEntries(
        IN_FLIGHT.map((inFlight) => [`${inFlight}`, () => worker.ask({ inFlight, seconds: plan.seconds })]),
      );
      const results = await inTurns(plan.turns, loads, (turn) => run.say(`creates: ${turn}`));
      return IN_FLIGHT.map((inFlight) => ({ inFlight, perSecond: median(results[inFlight].map(({ perSecond }) => perSecond)) }));
    } finally {
      await stopWorker(worker);
    }
  });
}
