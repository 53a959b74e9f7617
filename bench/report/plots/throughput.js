import { serverOf } from '../contenders.js';
import { rate } from '../numbers.js';
import { decades, lineChart, measured } from './chart.js';

const FIELDS = { daemon: 'daemon', echo: 'echo', 'node:http': 'http', fastify: 'fastify' };

/** Two ways to have more under way: on one connection, or on more of them. */
const PANELS = [
  {
    heading: 'one connection',
    title: 'requests in flight',
    has: ([connections]) => connections === 1,
    at: ([, inFlight]) => inFlight,
  },
  {
    heading: '64 in flight on each connection',
    title: 'connections',
    has: ([, inFlight]) => inFlight === 64,
    at: ([connections]) => connections,
  },
];

const shapeOf = ({ shape }) => shape.split(' x ').map(Number);

function seriesOf(shapes, { has, at }) {
  const of = shapes.filter((one) => has(shapeOf(one))).sort((a, b) => at(shapeOf(a)) - at(shapeOf(b)));
  return Object.entries(FIELDS)
    .map(([name, field]) => ({
      ...serverOf(name),
      points: of.filter((one) => one[field]).map((one) => [at(shapeOf(one)), one[field].perSecond]),
    }))
    .filter(({ points }) => points.length > 0);
}

/** A panel needs a line: of one point there is nothing to read. */
const panelsOf = (shapes) =>
  PANELS.map((panel) => ({ ...panel, series: seriesOf(shapes, panel) })).filter(({ series }) =>
    series.some(({ points }) => points.length > 1),
  );

/** Each name once: in the last panel that has its line. */
const lastOf = (panels, i) =>
  panels[i].series.filter(({ label }) => !panels.slice(i + 1).some(({ series }) => series.some((one) => one.label === label)));

/** Requests per second against how many are under way. */
export const throughput = {
  name: 'throughput',
  title: 'Encrypts per second by requests in flight',
  subtitle: '1 KiB messages over a Unix socket, both axes logarithmic',
  reading({ daemon: { shapes } }) {
    const best = shapes.filter(({ daemon }) => daemon).sort((a, b) => b.daemon.perSecond - a.daemon.perSecond)[0];
    const http = Math.max(...shapes.map(({ http: one }) => one?.perSecond ?? 0));
    const ours = best
      ? `The daemon reaches ${rate(best.daemon.perSecond)} (${best.shape} in flight)`
      : 'The daemon was not measured';
    const theirs = http > 0 ? `; a node:http server with JSON does not get beyond ${rate(http)}` : '';
    return `${ours}${theirs}. The C echo server, which encrypts nothing, shows what the socket alone allows.`;
  },
  spec({ daemon }, { width, narrow }) {
    const panels = panelsOf(daemon?.shapes ?? []);
    if (panels.length === 0) return undefined;
    const values = panels.flatMap(({ series }) => series.flatMap(({ points }) => points.map(([, value]) => value)));
    const y = { ...decades(values, 1.6), label: 'count' };
    const inner = narrow ? width - 175 : (width - 210 - 26 * (panels.length - 1)) / panels.length;
    const charts = panels.map(({ series, heading, title }, i) => {
      const x = { ...measured(series.flatMap(({ points }) => points.map(([value]) => value))), label: 'count', title };
      const labelled = narrow || i === 0 ? y : { ...y, label: 'none' };
      return lineChart({
        series,
        x,
        y: labelled,
        width: inner,
        height: narrow ? 240 : 330,
        named: narrow ? series : lastOf(panels, i),
        heading,
      });
    });
    return narrow ? { vconcat: charts } : { hconcat: charts };
  },
};
