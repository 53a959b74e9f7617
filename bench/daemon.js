// The daemon figures, over Unix sockets: by load generators in C on the other core, and durable creates by a Node client.
import { measureCreates } from './creates.js';
import { binaryLoad, httpLoad, nameOf, serverRate } from './loads.js';
import { AAD_BYTES, PLAINTEXT_BYTES, startDaemon, startEcho, startFastify, startHttp, withServers } from './servers.js';
import { measureShapes, ratioOf } from './shapes.js';
import { measureSizes } from './sizes.js';
import { inTurns } from './turns.js';

/** The daemon's own HTTP surface and the HTTP servers, each request on a connection that waits for its answer. */
const HTTP_SURFACE = [16, 1];

const HEAT = { binary: 200_000, http: 20_000, block: { warm: 0, seconds: 0.4 }, blocks: 15 };

const PLANS = {
  full: {
    shapes: { turns: 5, warm: 0.15, seconds: 0.6 },
    sizes: { turns: 3, warm: 0.15, seconds: 0.5 },
  },
  quick: {
    shapes: { turns: 2, warm: 0.05, seconds: 0.2 },
    sizes: { turns: 1, warm: 0.05, seconds: 0.2 },
  },
};

/** The four servers, without the product three of them. */
export function serverStarts(run) {
  return {
    echo: () => startEcho(run.scratch, run.programs),
    http: () => startHttp(run.scratch),
    fastify: () => startFastify(run.scratch),
    ...(run.product && { daemon: () => startDaemon(run.scratch) }),
  };
}

/** Loads a server until it has answered so often, whatever time that takes on this machine, within reason. */
async function answersAtLeast(least, load) {
  let answers = 0;
  for (let blocks = 0; answers < least && blocks < HEAT.blocks; blocks++) answers += (await load(HEAT.block)).answers;
}

/** Servers of JavaScript are timed when the code that answers is compiled: after some thousands of requests. */
export async function heat(run, { daemon, http, fastify }) {
  if (daemon) {
    await answersAtLeast(HEAT.binary, (plan) => binaryLoad(run, daemon, [8, 64], plan));
    await answersAtLeast(HEAT.binary, (plan) => binaryLoad(run, daemon, [8, 64], plan, { decrypt: true }));
  }
  for (const server of [daemon, http, fastify].filter(Boolean)) {
    await answersAtLeast(HEAT.http, (plan) => httpLoad(run, server, HTTP_SURFACE, plan));
  }
}

async function measureSurface(run, servers, plan) {
  const kinds = ['daemon', 'http', 'fastify'].filter((kind) => servers[kind]);
  const loads = Object.fromEntries(kinds.map((kind) => [kind, () => httpLoad(run, servers[kind], HTTP_SURFACE, plan)]));
  const { daemon, http, fastify } = await inTurns(plan.turns, loads, (turn) => run.say(`HTTP surface: ${turn}`));
  return {
    shape: nameOf(HTTP_SURFACE),
    daemon: serverRate(daemon),
    http: serverRate(http),
    fastify: serverRate(fastify),
    daemonOverHttp: ratioOf(daemon, http),
    daemonOverFastify: ratioOf(daemon, fastify),
  };
}

/** Without the product, the echo server and the HTTP servers are measured alone. */
export async function measureDaemon(run) {
  const plan = run.quick ? PLANS.quick : PLANS.full;
  const measured = await withServers(serverStarts(run), async (servers) => {
    await heat(run, servers);
    return {
      ...(await measureShapes(run, servers, plan.shapes)),
      sizes: await measureSizes(run, servers, plan.sizes),
      httpSurface: await measureSurface(run, servers, plan.shapes),
    };
  });
  const creates = run.product ? await measureCreates(run) : [];
  return { plaintextBytes: PLAINTEXT_BYTES, aadBytes: AAD_BYTES, turns: plan.shapes.turns, ...measured, creates };
}
