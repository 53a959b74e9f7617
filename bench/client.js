// The client figures: a Node client with a promise for each encrypt, end to end against its own server.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { DRIVER_CORE, startWorker, stopWorker } from './processes.js';
import { BENCH, ROOT } from './programs.js';
import { AAD_BYTES, PLAINTEXT_BYTES, startDaemon, startHttp, withServers } from './servers.js';
import { median, pairedRatio } from './statistics.js';

const IN_FLIGHT = 256;

const PLANS = {
  full: { turns: 9, warm: 0.3, seconds: 1.2 },
  quick: { turns: 2, warm: 0.2, seconds: 0.5 },
};

function startClient(kind, { socket, keyId = 'k_0' }) {
  const library = pathToFileURL(join(ROOT, 'dist/client/index.js')).href;
  const args = [kind, socket, keyId, PLAINTEXT_BYTES, AAD_BYTES, IN_FLIGHT, library].map(String);
  return startWorker(join(BENCH, 'client-worker.js'), args, { core: DRIVER_CORE });
}

async function measureTurns(run, servers, plan) {
  const clients = [];
  const results = { kms: [], http: [] };
  try {
    if (servers.daemon) clients.push({ kind: 'kms', ...(await startClient('kms', servers.daemon)) });
    clients.push({ kind: 'http', ...(await startClient('http', servers.http)) });
    for (const { ask } of clients) await ask({ warm: 0, seconds: run.quick ? 0.5 : 2 });
    for (let turn = 0; turn < plan.turns; turn++) {
      for (const { kind, ask } of clients) results[kind].push(await ask({ warm: plan.warm, seconds: plan.seconds }));
      run.say(`client: turn ${turn + 1} of ${plan.turns}`);
    }
  } finally {
    await Promise.all(clients.map(stopWorker));
  }
  return results;
}

export async function measureClient(run) {
  const plan = run.quick ? PLANS.quick : PLANS.full;
  const starts = { http: () => startHttp(run.scratch), ...(run.product && { daemon: () => startDaemon(run.scratch) }) };
  const { kms, http } = await withServers(starts, (servers) => measureTurns(run, servers, plan));
  const rates = (results) => results.map(({ perSecond }) => perSecond);
  const figures = (results) =>
    results.length === 0
      ? undefined
      : { perSecond: median(rates(results)), clientCpuNs: median(results.map(({ clientCpuNs }) => clientCpuNs)) };
  return {
    inFlight: IN_FLIGHT,
    turns: plan.turns,
    kms: figures(kms),
    http: figures(http),
    kmsOverHttp: kms.length > 0 ? pairedRatio(rates(kms), rates(http)) : undefined,
  };
}
