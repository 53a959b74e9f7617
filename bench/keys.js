// What many keys cost: one process whose store grows from one key on, each message for a random one of them.
import { join } from 'node:path';
import { startWorker, stopWorker } from './processes.js';
import { BENCH } from './programs.js';
import { median, pairedRatio } from './statistics.js';

const SIZE = 1024;
const AAD_BYTES = 32;
const PLANS = {
  full: { counts: [1, 100, 10_000, 100_000, 1_000_000], turns: 11 },
  quick: { counts: [1, 100, 10_000, 100_000], turns: 3 },
};
/** A cell of the arena; a tenth of the cells is not for cached keys. */
const CELL_BYTES = 40;
const arenaFor = (keys) => Math.ceil((keys * CELL_BYTES * 10) / 9) + 64 * 1024;

function summarise(grown, turns) {
  const { keys, cachedKeys, residentBytes } = grown;
  const series = (name, field) => turns.map((turn) => turn[name][field]);
  const ns = (name) => median(series(name, 'ns'));
  const overFloor = (name) => pairedRatio(series(name, 'ns'), series(name, 'floor'));
  return {
    keys,
    cachedKeys,
    residentBytes,
    encryptNs: ns('encrypt'),
    decryptNs: ns('decrypt'),
    encryptByIdNs: ns('encryptById'),
    decryptByIdNs: ns('decryptById'),
    encryptOverFloor: overFloor('encrypt'),
    decryptOverFloor: overFloor('decrypt'),
  };
}

async function measureCount(run, worker, wanted, turns) {
  const grown = await worker.ask({ grow: wanted });
  const { keys } = grown;
  if (keys < wanted) run.say(`keys: the time was up before there were ${wanted}`);
  run.say(`keys: ${keys} made in ${grown.seconds.toFixed(1)} s, ${grown.cachedKeys} in ${grown.protection} memory`);
  if (grown.cachedKeys < keys) {
    run.say(
      `keys: RLIMIT_MEMLOCK (${grown.memlockLimit} bytes) locks an arena of ${grown.arenaBytes} bytes only: ` +
        `${keys - grown.cachedKeys} of ${keys} keys are unwrapped anew each time they are wanted`,
    );
  }
  const taken = [];
  for (let i = 0; i < turns; i++) taken.push((await worker.ask({ turn: true })).turn);
  return summarise(grown, taken);
}

export async function measureKeys(run) {
  if (!run.product) return undefined;
  const { counts, turns } = run.quick ? PLANS.quick : PLANS.full;
  const most = Math.max(...counts);
  const order = {
    floor: run.programs.floor,
    product: run.product,
    size: SIZE,
    aadBytes: AAD_BYTES,
    cachedKeys: most,
    arenaBytes: arenaFor(most),
  };
  const worker = await startWorker(join(BENCH, 'keys-worker.js'), [JSON.stringify(order)], { execArgv: ['--expose-gc'] });
  try {
    const results = [];
    for (const keys of counts) results.push(await measureCount(run, worker, keys, turns));
    return { size: SIZE, counts: results };
  } finally {
    await stopWorker(worker);
  }
}
