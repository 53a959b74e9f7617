import { serverOf } from '../contenders.js';
import { micros, rate } from '../numbers.js';
import { decades, lineChart } from './chart.js';

const PANELS = [
  ['p50', 'half within (p50)'],
  ['p99', '99 % within (p99)'],
  ['p999', '99.9 % within (p99.9)'],
];
const ORDER = ['daemon', 'echo', 'node:http', 'fastify'];
/** Their lines end early: there is room for their names in the first panel, and none in the last. */
const ENDS_EARLY = new Set(['node:http', 'fastify']);
/** Below this share of the rate that was due, the queue grows for as long as the run lasts. */
const KEPT_UP = 0.95;

const keptUp = ({ saturated, achieved, perSecond }) => !(saturated ?? achieved < KEPT_UP * perSecond);

function seriesOf(open, field) {
  return ORDER.map((name) => ({
    ...serverOf(name),
    endsEarly: ENDS_EARLY.has(name),
    points: open
      .filter(({ server }) => server === name)
      .sort((a, b) => a.perSecond - b.perSecond)
      .map((one) => [one.perSecond, one[field], !keptUp(one)]),
  })).filter(({ points }) => points.length > 0);
}

const highestKept = (open, name) =>
  open.filter((one) => one.server === name && keptUp(one)).sort((a, b) => b.perSecond - a.perSecond)[0];

/** Percentiles against the rate at which requests are due, whatever the answers do. */
export const latency = {
  name: 'latency',
  title: 'Latency at a fixed rate',
  subtitle: 'from the instant a request was due to its answer; hollow: the server could not keep up with the rate',
  reading({ latency: { open } }) {
    const ours = highestKept(open, 'daemon');
    const http = highestKept(open, 'node:http');
    const parts = [];
    if (ours)
      parts.push(
        `At ${rate(ours.perSecond)} half of the daemon's answers take less than ${micros(ours.p50)}, and 99 % less than ${micros(ours.p99)}`,
      );
    if (http) parts.push(`node:http keeps up to ${rate(http.perSecond)}, with 99 % below ${micros(http.p99)}`);
    return parts.length > 0 ? `${parts.join('; ')}.` : 'No server kept up with the rates that were tried.';
  },
  spec({ latency: measured }, { width, narrow }) {
    const open = measured?.open ?? [];
    if (open.length === 0) return undefined;
    const values = open.flatMap((one) => PANELS.map(([field]) => one[field]));
    const y = { ...decades(values, 1.6), label: 'us' };
    const x = {
      ...decades(
        open.map(({ perSecond }) => perSecond),
        1.4,
      ),
      label: 'count',
      title: 'requests due per second',
    };
    const panelWidth = narrow ? width - 185 : (width - 275) / 3;
    const panels = PANELS.map(([field, heading], i) => {
      const series = seriesOf(open, field);
      const named = { 0: (one) => one.endsEarly, [PANELS.length - 1]: (one) => !one.endsEarly }[i] ?? (() => false);
      const own = { x: narrow && i < 2 ? { ...x, title: undefined } : x, y: narrow || i === 0 ? y : { ...y, label: 'none' } };
      return lineChart({
        series,
        ...own,
        width: panelWidth,
        height: narrow ? 190 : 300,
        named: narrow ? series : series.filter(named),
        heading,
      });
    });
    return narrow ? { vconcat: panels } : { hconcat: panels, spacing: 18 };
  },
};
