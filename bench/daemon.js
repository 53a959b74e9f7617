// The daemon figures: 1 KiB encrypts over one Unix socket, by load generators in C on the other core.
import { runLoad } from './processes.js';
import { AAD_BYTES, PLAINTEXT_BYTES, startDaemon, startEcho, startHttp, withServers } from './servers.js';
import { median, pairedRatio } from './statistics.js';

/** Connections and requests in flight on each. */
const SHAPES = [
  [1, 1],
  [1, 16],
  [1, 64],
  [1, 256],
  [8, 64],
];
/** 256 in flight for node:http, spread in different ways: it is measured in the one that suits it best. */
const HTTP_SHAPES = [
  [4, 64],
  [16, 16],
  [256, 1],
];

/** The daemon's own HTTP surface and node:http, each request on a connection that waits for its answer. */
const HTTP_SURFACE = [16, 1];

const PLANS = {
  full: { turns: 7, warm: 0.3, seconds: 1.2 },
  quick: { turns: 2, warm: 0.2, seconds: 0.5 },
};

const nameOf = ([connections, inFlight]) => `${connections} x ${inFlight}`;

function binaryLoad({ programs }, server, [connections, inFlight], { warm, seconds }) {
  const { socket, keyId, child } = server;
  return runLoad([programs.load, socket, keyId, PLAINTEXT_BYTES, AAD_BYTES, connections, inFlight, warm, seconds, child.pid]);
}

function httpLoad({ programs }, { socket, bodyFile, child }, [connections, inFlight], { warm, seconds }) {
  return runLoad([programs.httpLoad, socket, bodyFile, connections, inFlight, warm, seconds, child.pid]);
}

/** The way to keep 256 in flight that node:http serves fastest, found once it is warm. */
async function bestHttpShape(run, http, plan) {
  await httpLoad(run, http, HTTP_SHAPES[0], { warm: 0, seconds: run.quick ? 0.5 : 2 });
  let best = { perSecond: 0 };
  for (const shape of HTTP_SHAPES) {
    const { perSecond } = await httpLoad(run, http, shape, plan);
    if (perSecond > best.perSecond) best = { perSecond, shape };
  }
  return best.shape;
}

async function measureTurns(run, servers, plan) {
  const httpShape = await bestHttpShape(run, servers.http, plan);
  const blocks = SHAPES.map((shape) => ({ shape, echo: [], daemon: [], http: [] }));
  const surface = { ours: [], http: [] };
  if (servers.daemon) await httpLoad(run, servers.daemon, HTTP_SURFACE, { warm: 0, seconds: run.quick ? 0.5 : 2 });
  for (let turn = 0; turn < plan.turns; turn++) {
    for (const block of blocks) {
      block.echo.push(await binaryLoad(run, servers.echo, block.shape, plan));
      if (servers.daemon) block.daemon.push(await binaryLoad(run, servers.daemon, block.shape, plan));
      if (nameOf(block.shape) === '1 x 256') block.http.push(await httpLoad(run, servers.http, httpShape, plan));
    }
    if (servers.daemon) surface.ours.push(await httpLoad(run, servers.daemon, HTTP_SURFACE, plan));
    surface.http.push(await httpLoad(run, servers.http, HTTP_SURFACE, plan));
    run.say(`daemon: turn ${turn + 1} of ${plan.turns}`);
  }
  return { httpShape: nameOf(httpShape), blocks, surface };
}

function summarise({ shape, echo, daemon, http }) {
  const rates = (results) => results.map(({ perSecond }) => perSecond);
  const figures = (results) =>
    results.length === 0
      ? undefined
      : {
          perSecond: median(rates(results)),
          serverCpuNs: median(results.map(({ serverCpuNs }) => serverCpuNs)),
          serverBusy: median(results.map(({ serverBusy }) => serverBusy)),
          generatorBusy: median(results.map(({ generatorBusy }) => generatorBusy)),
        };
  const cpuTimes = (results) => results.map(({ serverCpuNs }) => serverCpuNs);
  const ratio = (above, below, of = rates) =>
    above.length > 0 && below.length > 0 ? pairedRatio(of(above), of(below)) : undefined;
  return {
    shape: nameOf(shape),
    echo: figures(echo),
    daemon: figures(daemon),
    http: figures(http),
    daemonOverEcho: ratio(daemon, echo),
    daemonOverHttp: ratio(daemon, http),
    echoOverHttp: ratio(echo, http),
    httpCpuOverDaemon: ratio(http, daemon, cpuTimes),
  };
}

/** Without the product, the echo server and node:http are measured alone. */
export async function measureDaemon(run) {
  const plan = run.quick ? PLANS.quick : PLANS.full;
  const starts = {
    echo: () => startEcho(run.scratch, run.programs),
    http: () => startHttp(run.scratch),
    ...(run.product && { daemon: () => startDaemon(run.scratch) }),
  };
  const { httpShape, blocks, surface } = await withServers(starts, (servers) => measureTurns(run, servers, plan));
  const httpSurface = summarise({ shape: HTTP_SURFACE, echo: [], daemon: surface.ours, http: surface.http });
  const shapes = blocks.map(summarise);
  return { plaintextBytes: PLAINTEXT_BYTES, aadBytes: AAD_BYTES, turns: plan.turns, httpShape, shapes, httpSurface };
}
