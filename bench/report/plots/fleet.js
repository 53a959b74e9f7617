import { constantsOf, fleetOf } from '../../scale/model.js';
import { PALETTE } from '../contenders.js';
import { count } from '../numbers.js';
import { decades, lineChart } from './chart.js';

const KEYS = 1e9;
const RATES = [1e7, 1e6, 1e5];
const MISSES = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1];
const COLOURS = [PALETTE.ours, PALETTE.oursToo, PALETTE.floor];
const NAMES = ['10 M/s', '1 M/s', '100 k/s'];

const coresFor = (c, operations, misses) => fleetOf(c, { keys: KEYS, operations, hitShare: 1 - misses }).cores;

/** What the model says of a fleet: not measured. */
export const fleet = {
  name: 'fleet',
  title: 'Cores of daemons, by the share of operations that miss the cache',
  subtitle: 'extrapolated from the largest store that was measured',
  reading({ scale }) {
    const c = constantsOf(scale);
    return `By the model ${count(RATES[0])} operations a second take ${count(coresFor(c, RATES[0], 0.001))} cores where one in a thousand misses, and ${count(coresFor(c, RATES[0], 1))} where all do.`;
  },
  spec({ scale }, { width, narrow }) {
    const c = scale && constantsOf(scale);
    if (!c) return undefined;
    const series = RATES.map((operations, i) => ({
      label: NAMES[i],
      colour: COLOURS[i],
      points: MISSES.map((misses) => [misses * 100, coresFor(c, operations, misses)]),
    }));
    const x = {
      domain: [0.09, 110],
      ticks: [0.1, 1, 10, 100],
      label: 'percent',
      title: 'of the operations bring their key from the store',
    };
    const y = {
      ...decades(
        series.flatMap(({ points }) => points.map(([, value]) => value)),
        1.6,
      ),
      label: 'count',
      title: 'cores',
    };
    return lineChart({ series, x, y, width: width - (narrow ? 120 : 150), height: narrow ? 220 : 260 });
  },
};
