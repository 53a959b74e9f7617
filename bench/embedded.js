// The embedded figures: child processes one after another, many alternated blocks in each.
import { join } from 'node:path';
import { startWorker, stopWorker } from './processes.js';
import { BENCH } from './programs.js';
import { median, pairedRatio } from './statistics.js';

const SIZES = [64, 1024, 65_536];
const AAD_BYTES = 32;
const OPERATIONS = 200_000;

const PLANS = {
  full: { processes: 3, turns: 9, blockMs: 100 },
  quick: { processes: 1, turns: 3, blockMs: 30 },
};

async function measureSize(size, plan, { programs, product, scratch, say }) {
  const turns = [];
  let algorithms = {};
  for (let process_ = 0; process_ < plan.processes; process_++) {
    const args = [programs.floor, size, AAD_BYTES, OPERATIONS, plan.blockMs, scratch, product ?? ''].map(String);
    const worker = await startWorker(join(BENCH, 'embedded-worker.js'), args, { execArgv: ['--expose-gc'] });
    try {
      for (let i = 0; i < plan.turns; i++) {
        const answer = await worker.ask({});
        turns.push(answer.turn);
        algorithms = answer.algorithms;
      }
    } finally {
      await stopWorker(worker);
    }
    say(`embedded, ${size} bytes: process ${process_ + 1} of ${plan.processes}`);
  }
  return { size, turns, algorithms };
}

/** Per variant: nanoseconds, and the ratios to the floor's block beside it and to node:crypto's block of the same turn. */
function summarise({ size, turns, algorithms }) {
  const series = (name, field) => turns.map((turn) => turn[name][field]);
  const variants = {};
  for (const name of Object.keys(turns[0])) {
    variants[name] = {
      algorithm: algorithms[name],
      ns: median(series(name, 'ns')),
      overFloor: pairedRatio(series(name, 'ns'), series(name, 'floor')),
      fasterThanNodeCrypto: pairedRatio(series('node:crypto', 'ns'), series(name, 'ns')),
    };
  }
  const floorNs = median(Object.keys(turns[0]).flatMap((name) => series(name, 'floor')));
  return { size, turns: turns.length, floorNs, variants };
}

/** `run.product` is the path of the built library, or undefined to measure the floor and the peers alone. */
export async function measureEmbedded(run) {
  const results = [];
  for (const size of SIZES) {
    results.push(summarise(await measureSize(size, run.quick ? PLANS.quick : PLANS.full, run)));
  }
  return { aadBytes: AAD_BYTES, sizes: results };
}
