// What a second worker thread gives: the same load on daemons that differ in nothing but how many threads serve, on all cores.
import { binaryLoad, nameOf, serverRate } from './loads.js';
import { ANYWHERE } from './processes.js';
import { startDaemon, withServers } from './servers.js';
import { ratioOf } from './shapes.js';
import { inTurns } from './turns.js';

/** Connections and requests in flight on each; a single one is served by one thread, however many there are. */
const SHAPES = [
  [8, 64],
  [32, 32],
  [1, 256],
];
const COUNTS = [1, 2];

const PLANS = {
  full: { turns: 9, warm: 0.3, seconds: 1 },
  quick: { turns: 3, warm: 0.1, seconds: 0.4 },
};

export async function measureWorkers(run) {
  if (!run.product) return undefined;
  const plan = run.quick ? PLANS.quick : PLANS.full;
  const start = (count) => () => startDaemon(run.scratch, ['--workers', String(count)], process.execPath, ANYWHERE);
  const starts = Object.fromEntries(COUNTS.map((count) => [count, start(count)]));
  const results = await withServers(starts, (servers) => {
    const blocks = SHAPES.flatMap((shape) =>
      COUNTS.map((count) => [
        `${nameOf(shape)} on ${count}`,
        () => binaryLoad(run, servers[count], shape, plan, { core: ANYWHERE }),
      ]),
    );
    return inTurns(plan.turns, Object.fromEntries(blocks), (turn) => run.say(`workers: ${turn}`));
  });
  const shapes = SHAPES.map((shape) => {
    const [one, two] = COUNTS.map((count) => results[`${nameOf(shape)} on ${count}`]);
    return { shape: nameOf(shape), one: serverRate(one), two: serverRate(two), twoOverOne: ratioOf(two, one) };
  });
  return { turns: plan.turns, shapes };
}
