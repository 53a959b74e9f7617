// The same product on several versions of node, which bring their own OpenSSL: the versions in turn, block by block.
import { execFileSync } from 'node:child_process';
import { existsSync, readlinkSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { startVariants } from './embedded.js';
import { runLoad, stopWorker } from './processes.js';
import { BENCH, buildFloor } from './programs.js';
import { AAD_BYTES, PLAINTEXT_BYTES, startDaemon, withServers } from './servers.js';
import { median, pairedRatio } from './statistics.js';

/** Optional dependencies of the benchmark: packages that carry a node for this platform. */
const CARRIED = ['node-22-linux-x64', 'node-24-linux-x64'];
const SIZES = [64, 1024, 65_536];
const MODULES = ['own', 'node-crypto'];
const NAMES = ['encryptInto', 'encryptSync', 'node:crypto'];
const SHAPES = { at256: [1, 256], at8x64: [8, 64] };

const PLANS = {
  full: { turns: 7, blockMs: 50, warmMs: 300, warm: 0.3, seconds: 1 },
  quick: { turns: 2, blockMs: 12, warmMs: 100, warm: 0.2, seconds: 0.4 },
};

/** `{path, node, openssl, floor}` of each version that is there; the running one first. */
function findNodes(run) {
  const carried = CARRIED.map((name) => join(BENCH, 'node_modules', name, 'bin/node'));
  const found = [process.execPath];
  for (const path of carried) {
    if (existsSync(path)) found.push(path);
    else run.say(`nodes: ${path} is not there, and is left out`);
  }
  return found.map((path) => {
    const [node, openssl] = JSON.parse(execFileSync(path, ['-p', 'JSON.stringify([process.version, process.versions.openssl])']));
    return { path, node, openssl, floor: buildFloor(path, node) };
  });
}

/** Turns of one size, by version. */
async function measureSize(run, nodes, size, plan) {
  const workers = [];
  try {
    for (const { path, floor } of nodes) {
      workers.push(await startVariants(run, { size, ...plan, modules: MODULES, names: NAMES, floor, node: path }));
    }
    const turns = nodes.map(() => []);
    for (let turn = 0; turn < plan.turns; turn++) {
      for (const [i, worker] of workers.entries()) {
        const answer = await worker.ask({});
        if (answer.node !== nodes[i].node) throw new Error(`a worker of ${nodes[i].node} runs on ${answer.node}`);
        turns[i].push(answer.turn);
      }
    }
    run.say(`nodes: ${size} bytes, ${plan.turns} turns`);
    return turns.map((taken) => summarise(size, taken));
  } finally {
    await Promise.all(workers.map(stopWorker));
  }
}

function summarise(size, turns) {
  const series = (name, field) => turns.map((turn) => turn[name][field]);
  const overFloor = (name) => pairedRatio(series(name, 'ns'), series(name, 'floor'));
  return {
    size,
    floorNs: median(NAMES.flatMap((name) => series(name, 'floor'))),
    encryptInto: overFloor('encryptInto'),
    encryptSync: overFloor('encryptSync'),
    nodeCrypto: overFloor('node:crypto'),
    encryptIntoNs: median(series('encryptInto', 'ns')),
  };
}

function load({ programs }, { socket, keyId, child }, [connections, inFlight], { warm, seconds }) {
  return runLoad([programs.load, socket, keyId, PLAINTEXT_BYTES, AAD_BYTES, connections, inFlight, warm, seconds, child.pid]);
}

/** The daemon's rates, by version and shape; all of them up at once, one under load. */
async function measureDaemons(run, nodes, plan) {
  const starts = Object.fromEntries(nodes.map(({ node, path }) => [node, () => startDaemon(run.scratch, [], path)]));
  return withServers(starts, async (daemons) => {
    for (const { node, path } of nodes) {
      const runs = readlinkSync(`/proc/${daemons[node].child.pid}/exe`);
      if (runs !== realpathSync(path)) throw new Error(`the daemon of ${node} runs on ${runs}`);
    }
    const taken = nodes.map(() => ({ at256: [], at8x64: [] }));
    for (let turn = 0; turn < plan.turns; turn++) {
      for (const [name, shape] of Object.entries(SHAPES)) {
        for (const [i, { node }] of nodes.entries()) taken[i][name].push(await load(run, daemons[node], shape, plan));
      }
      run.say(`nodes: daemons, turn ${turn + 1} of ${plan.turns}`);
    }
    return taken.map((blocks) => Object.fromEntries(Object.entries(blocks).map(([name, block]) => [name, rateOf(block)])));
  });
}

function rateOf(block) {
  const of = (field) => median(block.map((one) => one[field]));
  return { perSecond: of('perSecond'), serverCpuNs: of('serverCpuNs') };
}

export async function measureNodes(run) {
  if (!run.product) return undefined;
  const plan = run.quick ? PLANS.quick : PLANS.full;
  const nodes = findNodes(run);
  const sizes = [];
  for (const size of SIZES) sizes.push(await measureSize(run, nodes, size, plan));
  const daemons = await measureDaemons(run, nodes, plan);
  return nodes.map(({ node, openssl }, i) => ({ node, openssl, embedded: sizes.map((bySize) => bySize[i]), ...daemons[i] }));
}
