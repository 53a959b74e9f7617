// How long answers take: under requests that are due at a fixed rate, and one request at a time on one core and across two.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { heat, serverStarts } from './daemon.js';
import { binaryLoad, httpLoad, isGeneratorLimited, withLatencies } from './loads.js';
import { DRIVER_CORE, SERVER_CORE, startWorker, stopWorker } from './processes.js';
import { BENCH, ROOT } from './programs.js';
import { AAD_BYTES, CLI, PLAINTEXT_BYTES, startDaemon, withServers } from './servers.js';

const CONNECTIONS = 8;
/** No request waits for this before a socket's buffer is full, so the rate does not depend on the answers. */
const MOST_IN_FLIGHT = 1024;
const BINARY_RATES = [1_000, 10_000, 50_000, 100_000, 200_000, 400_000, 800_000];
const HTTP_RATES = [1_000, 5_000, 10_000, 20_000, 30_000];
/** Of the rate that was wanted; a server that does less has a queue that grows as long as it is asked, and its latencies with it. */
const KEPT_UP = 0.98;
/** How long the daemon with the spin looks for the next request before it sleeps. */
const SPIN_US = 200;

const PLANS = {
  full: { open: { warm: 0.3, seconds: 3 }, roundTrip: { warm: 0.5, seconds: 2 } },
  quick: {
    open: { warm: 0.1, seconds: 0.4 },
    roundTrip: { warm: 0.1, seconds: 0.4 },
  },
};

/** The server, its name in the results, the generator for it and the rates, of those that are up. */
function openLoads({ daemon, echo, http, fastify }) {
  const all = [
    { name: 'daemon', server: daemon, load: binaryLoad, rates: BINARY_RATES },
    { name: 'echo', server: echo, load: binaryLoad, rates: BINARY_RATES },
    { name: 'node:http', server: http, load: httpLoad, rates: HTTP_RATES },
    { name: 'fastify', server: fastify, load: httpLoad, rates: HTTP_RATES },
  ];
  return all.filter(({ server }) => server);
}

async function measureRate(run, { name, server, load }, rate, plan) {
  const measured = await withLatencies(run, (args) =>
    load(run, server, [CONNECTIONS, MOST_IN_FLIGHT], plan, { args: ['--rate', rate, ...args] }),
  );
  const { perSecond: achieved, percentiles, serverBusy, generatorBusy, generatorLateUs } = measured;
  const saturated = achieved < KEPT_UP * rate;
  const generatorLimited = isGeneratorLimited(measured);
  return {
    ...{ server: name, connections: CONNECTIONS, perSecond: rate, achieved, saturated },
    ...{ serverBusy, generatorBusy, generatorLateUs, generatorLimited, ...percentiles },
  };
}

/** Rate by rate, the servers that are asked for it beside each other. */
async function measureOpen(run, servers, plan) {
  const rows = [];
  const loads = openLoads(servers);
  const rates = [...new Set([...BINARY_RATES, ...HTTP_RATES])].sort((a, b) => a - b);
  for (const rate of rates) {
    for (const load of loads.filter((one) => one.rates.includes(rate))) rows.push(await measureRate(run, load, rate, plan));
    run.say(`latency: ${rate} a second`);
  }
  return loads.flatMap(({ name }) => rows.filter(({ server }) => server === name));
}

async function roundTrip(run, name, server, core, plan) {
  const { perSecond, percentiles } = await withLatencies(run, (args) => binaryLoad(run, server, [1, 1], plan, { args, core }));
  return { server: name, perSecond, ...percentiles };
}

async function nodeRoundTrip({ socket, keyId }, core, plan) {
  const library = pathToFileURL(join(ROOT, 'dist/client/index.js')).href;
  const args = [socket, keyId, PLAINTEXT_BYTES, AAD_BYTES, library].map(String);
  const worker = await startWorker(join(BENCH, 'round-trip-worker.js'), args, { core });
  try {
    return { server: 'daemon, node client', ...(await worker.ask(plan)) };
  } finally {
    await stopWorker(worker);
  }
}

async function roundTrips(run, { daemon, echo }, core, plan) {
  const rows = [await roundTrip(run, 'echo', echo, core, plan)];
  if (!daemon) return rows;
  rows.push(await roundTrip(run, 'daemon', daemon, core, plan));
  rows.push(await nodeRoundTrip(daemon, core, plan));
  return rows;
}

const canSpin = () => execFileSync(process.execPath, [CLI, 'serve', '--help'], { encoding: 'utf8' }).includes('--spin-us');

/** The row of a daemon that looks for the next request for a while before it sleeps: it takes a core of its own. */
async function spinRoundTrip(run, plan) {
  if (!run.product || !canSpin()) return [];
  const start = () => startDaemon(run.scratch, ['--spin-us', String(SPIN_US)]);
  return withServers({ daemon: start }, async ({ daemon }) => {
    await binaryLoad(run, daemon, [CONNECTIONS, 64], { warm: 0, seconds: plan.warm });
    return [await roundTrip(run, 'daemon, spin', daemon, DRIVER_CORE, plan)];
  });
}

export async function measureLatency(run) {
  const plan = run.quick ? PLANS.quick : PLANS.full;
  const measured = await withServers(serverStarts(run), async (servers) => {
    await heat(run, servers);
    return {
      open: await measureOpen(run, servers, plan.open),
      oneCore: await roundTrips(run, servers, SERVER_CORE, plan.roundTrip),
      twoCores: await roundTrips(run, servers, DRIVER_CORE, plan.roundTrip),
    };
  });
  const twoCores = [...measured.twoCores, ...(await spinRoundTrip(run, plan.roundTrip))];
  return { plaintextBytes: PLAINTEXT_BYTES, ...measured, twoCores };
}
