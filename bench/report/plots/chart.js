// Charts of lines with their names at their ends, and what all plots share: type, ink and axes in human units.
import { GRID, INK, PAPER, SOFT } from '../ink.js';

export const FONT = 'DejaVu Sans';
export const TYPE = 12.5;

export const CONFIG = {
  font: FONT,
  background: PAPER,
  view: { stroke: null },
  concat: { spacing: 26 },
  axis: {
    labelColor: SOFT,
    titleColor: SOFT,
    gridColor: GRID,
    domainColor: GRID,
    tickColor: GRID,
    labelFontSize: TYPE - 0.5,
    titleFontSize: TYPE - 0.5,
    titleFontWeight: 'normal',
    labelPadding: 6,
    titlePadding: 10,
    labelOverlap: 'greedy',
  },
  title: {
    anchor: 'start',
    frame: 'bounds',
    color: INK,
    fontSize: 17,
    fontWeight: 'bold',
    offset: 18,
    subtitleColor: SOFT,
    subtitleFontSize: TYPE,
    subtitlePadding: 7,
    subtitleLineHeight: 18,
  },
};

const inUnits = (units) =>
  `${units
    .map(([least, unit]) => `datum.value >= ${least * 0.9999} ? format(datum.value / ${least}, '~r') + '${unit}' : `)
    .join('')}format(datum.value, '~r')`;

/** Expressions for the labels of an axis. */
export const LABELS = {
  count: `datum.value % 1000 && datum.value < 10000 ? format(datum.value, ',') : ${inUnits([
    [1e6, ' M'],
    [1e3, ' k'],
  ])}`,
  ns: inUnits([
    [1e9, ' s'],
    [1e6, ' ms'],
    [1e3, ' µs'],
    [1, ' ns'],
  ]),
  us: inUnits([
    [1e6, ' s'],
    [1e3, ' ms'],
    [1, ' µs'],
  ]),
  bytes: inUnits([
    [2 ** 20, ' MiB'],
    [1024, ' KiB'],
    [1, ' B'],
  ]),
  decimal: inUnits([
    [1e9, ' GB'],
    [1e6, ' MB'],
    [1e3, ' kB'],
    [1, ' B'],
  ]),
  times: `format(datum.value, '~r') + 'x'`,
  gigabytes: inUnits([
    [1, ' GB/s'],
    [1e-3, ' MB/s'],
    [1e-6, ' kB/s'],
  ]),
  percent: `format(datum.value, '~r') + ' %'`,
  none: "''",
};

/** The powers of ten around the values, and the ends of an axis that holds them with some air. */
export function decades(values, air = 1.25) {
  const [least, most] = [Math.min(...values) / air, Math.max(...values) * air];
  const ticks = [];
  for (let power = Math.floor(Math.log10(least)); power <= Math.ceil(Math.log10(most)); power++) ticks.push(10 ** power);
  const inside = ticks.filter((tick) => tick >= least && tick <= most);
  if (inside.length >= 2) return { domain: [least, most], ticks: inside };
  return {
    domain: [least, most],
    ticks: ticks.flatMap((tick) => [tick, 2 * tick, 5 * tick]).filter((tick) => tick >= least && tick <= most),
  };
}

/** Every tick that was measured, as many as the width takes. */
export const measured = (values, air = 1.12) => ({
  domain: [Math.min(...values) / air, Math.max(...values) * air],
  ticks: [...new Set(values)].sort((a, b) => a - b),
});

/** Moves labels up and down, in the order of their values, until each has `gap` of the height to itself. */
export function apart(values, [least, most], height, gap, log) {
  const to = (value) => (log ? Math.log(value) : value);
  const scale = height / (to(most) - to(least));
  const at = values.map((value, index) => ({ index, y: (to(value) - to(least)) * scale })).sort((a, b) => a.y - b.y);
  for (let round = 0; round < 60; round++) {
    for (let i = 1; i < at.length; i++) {
      const short = gap - (at[i].y - at[i - 1].y);
      if (short <= 0) continue;
      at[i - 1].y -= short / 2;
      at[i].y += short / 2;
    }
  }
  const back = ({ y }) => (log ? Math.exp(y / scale + to(least)) : y / scale + to(least));
  return at.sort((a, b) => a.index - b.index).map(back);
}

function axisOf({ label, ticks, title }, grid) {
  return { values: ticks, labelExpr: LABELS[label], title: title ?? null, grid, domain: !grid, ticks: !grid };
}

const scaleOf = ({ domain, log = true }) => ({ type: log ? 'log' : 'linear', domain, nice: false });

function lineOf({ colour, dash, points, width }, encoding) {
  const data = { values: points.map(([x, y, hollow]) => ({ x, y, hollow: hollow === true })) };
  const fill = { condition: { test: 'datum.hollow', value: PAPER }, value: colour };
  return [
    {
      data,
      mark: { type: 'line', color: colour, strokeWidth: width ?? 2.2, strokeDash: dash ?? [1, 0], strokeCap: 'butt' },
      encoding,
    },
    { data, mark: { type: 'point', size: 34, opacity: 1, strokeWidth: 1.6, stroke: colour }, encoding: { ...encoding, fill } },
  ];
}

function namesOf(series, { y, height }, encoding) {
  const ends = series.map(({ points }) => points.at(-1));
  const moved = apart(
    ends.map(([, value]) => value),
    y.domain,
    height,
    TYPE + 4,
    y.log ?? true,
  );
  const values = series.map(({ label, colour }, i) => ({ x: ends[i][0], y: moved[i], label, colour }));
  return {
    data: { values },
    mark: { type: 'text', align: 'left', dx: 10, baseline: 'middle', fontSize: TYPE, fontWeight: 'bold', clip: false },
    encoding: { ...encoding, text: { field: 'label' }, color: { field: 'colour', type: 'nominal', scale: null } },
  };
}

/** `series`: `{label, colour, dash, points: [[x, y, hollow]]}`; `named` are those whose names are shown. A point without a neighbour stands alone. */
export function lineChart({ series, x, y, width, height, named = series, heading }) {
  const encoding = {
    x: { field: 'x', type: 'quantitative', scale: scaleOf(x), axis: axisOf(x, false) },
    y: { field: 'y', type: 'quantitative', scale: scaleOf(y), axis: axisOf(y, true) },
  };
  const layer = series.flatMap((one) => lineOf(one, encoding));
  if (named.length > 0) layer.push(namesOf(named, { y, height }, encoding));
  const title = heading && { text: heading, fontSize: TYPE + 0.5, offset: 8, frame: 'group' };
  return { width, height, layer, ...(title && { title }) };
}
