// Durable creates of an embedded provider with the audit log, and lmdb-js alone beside them.
import { join } from 'node:path';
import { startWorker, stopWorker } from '../processes.js';
import { BENCH } from '../programs.js';
import { median, pairedRatio } from '../statistics.js';
import { IN_FLIGHT, RECORD_BYTES } from './plan.js';

export function keysWorker(run, home, options) {
  const all = { dataDir: join(home, 'data'), masterKeyFile: join(home, 'master.key'), ...options };
  const order = {
    product: run.product,
    floor: run.programs.floor,
    sealed: join(home, 'sealed'),
    inFlight: IN_FLIGHT,
    options: all,
  };
  return startWorker(join(BENCH, 'scale/keys-worker.js'), [JSON.stringify(order)], { execArgv: ['--expose-gc'] });
}

function floorWorker(home) {
  const order = { path: join(home, 'floor.lmdb'), inFlight: IN_FLIGHT, recordBytes: RECORD_BYTES };
  return startWorker(join(BENCH, 'scale/floor-worker.js'), [JSON.stringify(order)]);
}

function summarise(blocks, floors) {
  const sum = (field) => blocks.reduce((all, block) => all + block[field], 0);
  const each = (list) => list.map(({ keys, seconds }) => seconds / keys);
  return {
    perSecond: sum('keys') / sum('seconds'),
    cpuNs: (sum('cpuSeconds') / sum('keys')) * 1e9,
    floorPerSecond: 1 / median(each(floors)),
    overFloor: pairedRatio(each(blocks), each(floors)),
  };
}

/** Fills the store. The floor grows as the store does, so that both have as deep a tree. */
export async function measureCreates(run, plan, home, { store, keys }) {
  const worker = await keysWorker(run, home, { store });
  const floor = await floorWorker(home);
  const block = Math.min(plan.block, Math.ceil(keys / plan.leastBlocks));
  const [blocks, floors] = [[], []];
  try {
    const atOpen = await worker.ask({ memory: true });
    for (let made = 0; made < keys; made += block) {
      const count = Math.min(block, keys - made);
      blocks.push(await worker.ask({ fill: count }));
      floors.push(await floor.ask({ fill: count }));
      run.say(`${store}, ${keys} keys: ${made + count} made`);
    }
    const memory = await worker.ask({ memory: true });
    const { seconds } = await worker.ask({ close: true });
    await floor.ask({ close: true });
    return { ...summarise(blocks, floors), memoryAtOpen: atOpen, memory, closeSeconds: seconds };
  } finally {
    await Promise.all([stopWorker(worker), stopWorker(floor)]);
  }
}
