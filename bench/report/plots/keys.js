import { PALETTE } from '../contenders.js';
import { count, time } from '../numbers.js';
import { lineChart, measured } from './chart.js';

const SERIES = [
  ['encryptNs', { label: 'encrypt', colour: PALETTE.ours }],
  ['decryptNs', { label: 'decrypt', colour: PALETTE.oursToo }],
];

/** A round step that makes four or so from nothing to the largest value. */
function stepsTo(most) {
  const rough = most / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= rough);
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, i) => i * step);
}

/** What many keys cost. */
export const keys = {
  name: 'keys',
  title: 'The time of one message, by how many keys are in use',
  subtitle: 'each message goes to a random one of them',
  reading({ keys: { counts } }) {
    const [first, last] = [counts[0], counts.at(-1)];
    return `With ${count(first.keys)} ${first.keys === 1 ? 'key' : 'keys'} an encryption takes ${time(first.encryptNs)}, with messages spread over ${count(last.keys)} keys ${time(last.encryptNs)}. Prepared keys are kept for the 4,096 hottest by default; beyond them most messages prepare their own.`;
  },
  spec({ keys: swept }, { width, narrow }) {
    if (!swept || swept.counts.length === 0) return undefined;
    const series = SERIES.map(([field, look]) => ({ ...look, points: swept.counts.map((one) => [one.keys, one[field]]) }));
    const points = series.flatMap((one) => one.points);
    const most = Math.max(...points.map(([, value]) => value)) * 1.15;
    const x = { ...measured(points.map(([value]) => value)), label: 'count', title: 'keys in use' };
    const y = { domain: [0, most], ticks: stepsTo(most), label: 'ns', log: false };
    return lineChart({ series, x, y, width: width - (narrow ? 145 : 170), height: narrow ? 220 : 260 });
  },
};
