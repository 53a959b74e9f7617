// The embedded figures: child processes one after another, many alternated blocks in each.
import { join } from 'node:path';
import { startWorker, stopWorker } from './processes.js';
import { BENCH } from './programs.js';
import { median, pairedRatio } from './statistics.js';

const KIB = 1024;
const AAD_BYTES = 32;
/** The bars stand at these. */
const JUDGED = [64, KIB, 64 * KIB];
const SIZES = [64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, 1024 * KIB];

/** How a process lays its heap and code out moves figures by some percent: several processes, not only many turns. */
const PLANS = {
  judged: { processes: 3, turns: 6, blockMs: 50, warmMs: 500, sdkWarmMs: 2000 },
  other: { processes: 2, turns: 4, blockMs: 50, warmMs: 500, sdkWarmMs: 2000 },
  quick: { processes: 1, turns: 2, blockMs: 12, warmMs: 100, sdkWarmMs: 600 },
};

/** A process that takes a turn of `modules` of bench/variants for each message it gets. */
export function startVariants(run, { size, blockMs, warmMs, modules, names, floor = run.programs.floor, node }) {
  const { scratch, product } = run;
  const order = { floor, size, aadBytes: AAD_BYTES, blockMs, warmMs, scratch, product, modules, names };
  return startWorker(join(BENCH, 'embedded-worker.js'), [JSON.stringify(order)], { node });
}

async function measureSize(run, size, plan) {
  const turns = [];
  let variants = {};
  // By itself: what the SDK loads makes every collection longer, which would be charged to whoever gives fresh results.
  const sdk = await startVariants(run, { size, ...plan, warmMs: plan.sdkWarmMs, modules: ['encryption-sdk'] });
  try {
    for (let process_ = 0; process_ < plan.processes; process_++) {
      const worker = await startVariants(run, { size, ...plan, modules: ['own', 'node-crypto', 'peers'] });
      try {
        for (let i = 0; i < plan.turns; i++) {
          const answers = [await worker.ask({}), await sdk.ask({})];
          turns.push(Object.assign({}, ...answers.map(({ turn }) => turn)));
          variants = Object.assign({}, ...answers.map((answer) => answer.variants));
        }
      } finally {
        await stopWorker(worker);
      }
      run.say(`embedded, ${size} bytes: process ${process_ + 1} of ${plan.processes}`);
    }
  } finally {
    await stopWorker(sdk);
  }
  return summarise({ size, turns, variants });
}

/** Per variant: nanoseconds, and the ratios to the floor's block beside it and to node:crypto's block of the same turn. */
function summarise({ size, turns, variants }) {
  const series = (name, field) => turns.map((turn) => turn[name][field]);
  const peerOf = { encrypt: 'node:crypto', decrypt: 'node:crypto decrypt' };
  const summaries = Object.entries(variants).map(([name, { operation, algorithm, byClock }]) => {
    const [ns, cpuNs, floor] = ['ns', 'cpuNs', 'floor'].map((field) => series(name, field));
    const summary = {
      operation,
      algorithm,
      byClock,
      ns: median(ns),
      cpuNs: median(cpuNs),
      overFloor: pairedRatio(ns, floor),
      cpuOverFloor: pairedRatio(cpuNs, floor),
      fasterThanNodeCrypto: pairedRatio(series(peerOf[operation], 'ns'), ns),
    };
    return [name, summary];
  });
  const floorOf = (operation) => {
    const beside = Object.keys(variants).filter((name) => variants[name].operation === operation);
    return median(beside.flatMap((name) => series(name, 'floor')));
  };
  const floors = { floorNs: floorOf('encrypt'), openFloorNs: floorOf('decrypt') };
  return { size, turns: turns.length, ...floors, variants: Object.fromEntries(summaries) };
}

/** `run.product` is the path of the built library, or undefined to measure the floor and the peers alone. */
export async function measureEmbedded(run) {
  const sizes = [];
  for (const size of SIZES) {
    const plan = JUDGED.includes(size) ? PLANS.judged : PLANS.other;
    sizes.push(await measureSize(run, size, run.quick ? PLANS.quick : plan));
  }
  return { aadBytes: AAD_BYTES, sizes };
}
