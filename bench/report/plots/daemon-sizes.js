import { PALETTE, serverOf } from '../contenders.js';
import { bytes, gigabytes, rate } from '../numbers.js';
import { decades, lineChart, measured } from './chart.js';

const SERIES = [
  ['encrypt', { label: 'encrypt', colour: PALETTE.ours }],
  ['decrypt', { label: 'decrypt', colour: PALETTE.oursToo }],
  ['echo', serverOf('echo')],
];

const throughputOf = ({ size }, { perSecond }) => (size * perSecond) / 1e9;

/** What the daemon moves by the message's size. */
export const daemonSizes = {
  name: 'daemon-sizes',
  title: 'The daemon by message size',
  subtitle: 'gigabytes of plaintext per second through one connection, both axes logarithmic',
  reading({ daemon: { sizes } }) {
    const sorted = sizes.filter(({ encrypt }) => encrypt).sort((a, b) => a.size - b.size);
    if (sorted.length === 0) return 'The daemon was not measured.';
    const best = [...sorted].sort((a, b) => throughputOf(b, b.encrypt) - throughputOf(a, a.encrypt))[0];
    return `One connection carries ${rate(sorted[0].encrypt.perSecond)} encrypts of ${bytes(sorted[0].size)}, and at ${bytes(best.size)} the most plaintext, ${gigabytes(throughputOf(best, best.encrypt))}.`;
  },
  spec({ daemon }, { width, narrow }) {
    const sizes = [...(daemon?.sizes ?? [])].sort((a, b) => a.size - b.size);
    const series = SERIES.map(([field, look]) => ({
      ...look,
      points: sizes.filter((one) => one[field]).map((one) => [one.size, throughputOf(one, one[field])]),
    })).filter(({ points }) => points.length > 0);
    if (series.length === 0) return undefined;
    const points = series.flatMap((one) => one.points);
    const x = { ...measured(points.map(([value]) => value)), label: 'bytes', title: 'size of the message' };
    const y = {
      ...decades(
        points.map(([, value]) => value),
        1.5,
      ),
      label: 'gigabytes',
    };
    return lineChart({ series, x, y, width: width - (narrow ? 155 : 180), height: narrow ? 250 : 300 });
  },
};
