// Messages of 1 KiB by how many are in flight: the daemon, the C echo, and HTTP servers that do as much.
import { binaryLoad, httpLoad, nameOf, serverRate } from './loads.js';
import { pairedRatio } from './statistics.js';
import { inTurns } from './turns.js';

/** Connections and requests in flight on each. */
const SHAPES = [
  [1, 1],
  [1, 16],
  [1, 64],
  [1, 256],
  [1, 1024],
  [2, 64],
  [4, 64],
  [8, 64],
  [16, 64],
  [32, 32],
];
const DECRYPTED = ['1 x 256', '8 x 64'];
const HTTP_IN_FLIGHT = 256;
/** That many in flight, spread in different ways: an HTTP server is measured in the one that suits it best. */
const HTTP_SHAPES = [
  [4, 64],
  [16, 16],
  [64, 4],
  [256, 1],
];
const SEARCH_TURNS = { full: 2, quick: 1 };

/** The way to keep 256 in flight that an HTTP server serves fastest, found once it is warm. */
async function bestHttpShape(run, server, plan) {
  const blocks = HTTP_SHAPES.map((shape) => [nameOf(shape), () => httpLoad(run, server, shape, plan)]);
  const turns = run.quick ? SEARCH_TURNS.quick : SEARCH_TURNS.full;
  const results = await inTurns(turns, Object.fromEntries(blocks), () => {});
  const best = (shape) => Math.max(...results[nameOf(shape)].map(({ perSecond }) => perSecond));
  return HTTP_SHAPES.reduce((found, shape) => (best(shape) > best(found) ? shape : found));
}

/** As many in flight on at most as many connections. */
function spread([connections], inFlight) {
  const used = Math.min(connections, inFlight);
  return [used, inFlight / used];
}

/** The blocks of one shape, beside each other in every turn. HTTP servers have as many in flight in their own shape. */
function blocksOf(run, servers, shape, httpShapes, plan) {
  const name = nameOf(shape);
  const [connections, inFlight] = shape;
  const blocks = { [`${name} echo`]: () => binaryLoad(run, servers.echo, shape, plan) };
  if (servers.daemon) {
    blocks[`${name} daemon`] = () => binaryLoad(run, servers.daemon, shape, plan);
    if (DECRYPTED.includes(name))
      blocks[`${name} decrypt`] = () => binaryLoad(run, servers.daemon, shape, plan, { decrypt: true });
  }
  if (connections > 1 || (run.quick && inFlight !== HTTP_IN_FLIGHT)) return blocks;
  for (const [kind, best] of Object.entries(httpShapes)) {
    blocks[`${name} ${kind}`] = () => httpLoad(run, servers[kind], spread(best, inFlight), plan);
  }
  return blocks;
}

/** The ratio of two servers' blocks, turn by turn. */
export function ratioOf(above, below, field = 'perSecond') {
  if (!above?.length || !below?.length) return undefined;
  const values = (results) => results.map((result) => result[field]);
  return pairedRatio(values(above), values(below));
}

function summarise(shape, results) {
  const of = (kind) => results[`${nameOf(shape)} ${kind}`];
  const [connections, inFlight] = shape;
  return {
    shape: nameOf(shape),
    connections,
    inFlight,
    daemon: serverRate(of('daemon')),
    decrypt: serverRate(of('decrypt')),
    echo: serverRate(of('echo')),
    http: serverRate(of('http')),
    fastify: serverRate(of('fastify')),
    daemonOverEcho: ratioOf(of('daemon'), of('echo')),
    daemonOverHttp: ratioOf(of('daemon'), of('http')),
    daemonOverFastify: ratioOf(of('daemon'), of('fastify')),
    decryptOverEncrypt: ratioOf(of('decrypt'), of('daemon')),
    httpCpuOverDaemon: ratioOf(of('http'), of('daemon'), 'serverCpuNs'),
  };
}

export async function measureShapes(run, servers, plan) {
  const httpShapes = {};
  for (const kind of ['http', 'fastify']) httpShapes[kind] = await bestHttpShape(run, servers[kind], plan);
  const blocks = Object.assign({}, ...SHAPES.map((shape) => blocksOf(run, servers, shape, httpShapes, plan)));
  const results = await inTurns(plan.turns, blocks, (turn) => run.say(`daemon: ${turn}`));
  return {
    httpShape: nameOf(httpShapes.http),
    fastifyShape: nameOf(httpShapes.fastify),
    shapes: SHAPES.map((shape) => summarise(shape, results)),
  };
}
