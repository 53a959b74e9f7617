// Horizontal bars, each under its name, so that long names fit on a narrow page too.
import { INK, SOFT } from '../ink.js';
import { LABELS, TYPE } from './chart.js';

const ROW = 40;
const HEADING = 34;
const THICK = 13;

/** From the top: rows get their middle, headings their line. */
function placed(groups) {
  const rows = [];
  const headings = [];
  let y = 0;
  for (const { heading, rows: own } of groups) {
    headings.push({ text: heading, y: y + HEADING - 14 });
    y += HEADING;
    for (const row of own) {
      rows.push({ ...row, top: y + 19, bottom: y + 19 + THICK, middle: y + 19 + THICK / 2, nameY: y + 10 });
      y += ROW;
    }
    y += 10;
  }
  return { rows, headings, height: y };
}

/** `groups`: `{heading, rows: [{name, value, text, colour}]}`; `x`: `{domain, ticks, label, log, from, title}`. */
export function barChart({ groups, x, width, at }) {
  const { rows, headings, height } = placed(groups);
  const scale = { type: x.log ? 'log' : 'linear', domain: x.domain, nice: false };
  const axis = { values: x.ticks, labelExpr: LABELS[x.label], title: x.title ?? null, grid: true, domain: false, ticks: false };
  const across = { field: 'value', type: 'quantitative', scale, axis };
  const down = (field) => ({
    field,
    type: 'quantitative',
    scale: { domain: [0, height], reverse: true, nice: false },
    axis: null,
  });
  const colour = { field: 'colour', type: 'nominal', scale: null };
  const values = rows.map((row) => ({ ...row, from: x.from, end: Math.max(row.value, x.from) }));
  const text = (style) => ({ type: 'text', baseline: 'middle', align: 'left', fontSize: TYPE, ...style });
  const { field: _, ...acrossAt } = across;
  const left = at === undefined ? { value: 0 } : { ...acrossAt, datum: at };
  const beside = at === undefined ? 0 : 7;
  const layer = [
    {
      data: { values },
      mark: { type: 'rect', cornerRadius: 2 },
      encoding: { x: across, x2: { field: 'from' }, y: down('top'), y2: { field: 'bottom' }, color: colour },
    },
    {
      data: { values },
      mark: text({ color: INK, dx: beside }),
      encoding: { x: left, y: down('nameY'), text: { field: 'name' } },
    },
    {
      data: { values },
      mark: text({ color: INK, fontWeight: 'bold', dx: 7 }),
      encoding: { x: { ...across, field: 'end' }, y: down('middle'), text: { field: 'text' } },
    },
    {
      data: { values: headings },
      mark: text({ color: SOFT, fontWeight: 'bold', dx: beside }),
      encoding: { x: left, y: down('y'), text: { field: 'text' } },
    },
  ];
  if (at !== undefined) {
    layer.push({
      data: { values: [{ value: at }] },
      mark: { type: 'rule', color: INK, strokeWidth: 1.2 },
      encoding: { x: across },
    });
  }
  return { width, height, layer };
}
