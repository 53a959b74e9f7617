import { encrypting, variantOf } from '../contenders.js';
import { amount, bytes, gigabytes, times } from '../numbers.js';
import { decades, lineChart, measured } from './chart.js';

/** Promises for the same results add nothing to see beside the form without one. */
const LEFT_OUT = ['encryptWithDek', 'encryptMany'];

function seriesOf(sizes) {
  const sorted = [...sizes].sort((a, b) => a.size - b.size);
  const names = [...new Set(sorted.flatMap(({ variants }) => encrypting(variants).map(([name]) => name)))];
  const floor = { ...variantOf('floor'), points: sorted.map(({ size, floorNs }) => [size, size / floorNs]) };
  const others = names
    .filter((name) => !LEFT_OUT.includes(name))
    .map((name) => ({
      ...variantOf(name),
      width: name.startsWith('encrypt') || name === 'node:crypto' ? 2.4 : 1.5,
      points: sorted.filter(({ variants }) => variants[name]).map(({ size, variants }) => [size, size / variants[name].ns]),
    }));
  return [...others, floor];
}

/** Gigabytes per second by the message's size, against the floor and other libraries. */
export const sizes = {
  name: 'sizes',
  title: 'Encrypting in the same process, by message size',
  subtitle: 'gigabytes of plaintext per second, one thread, both axes logarithmic',
  reading({ embedded }) {
    const into = embedded.sizes.filter(({ variants }) => variants.encryptInto);
    if (into.length === 0) return 'The product was not measured.';
    const [first, last] = [into[0], into.at(-1)];
    const over = ({ variants }) => amount(variants.encryptInto.overFloor.ratio, 'x');
    const faster = ({ variants }) => times(variants.encryptInto.fasterThanNodeCrypto.ratio);
    const most = gigabytes(last.size / last.variants.encryptInto.ns);
    return `At ${bytes(first.size)} encryptInto takes ${over(first)} the time of a plain C++ loop and has ${faster(first)} the speed of node:crypto; at ${bytes(last.size)} it is ${over(last)} the time and ${faster(last)} the speed, ${most}.`;
  },
  spec({ embedded }, { width, narrow }) {
    if (!embedded) return undefined;
    const series = seriesOf(embedded.sizes);
    const points = series.flatMap((one) => one.points);
    const x = { ...measured(points.map(([value]) => value)), label: 'bytes', title: 'size of the message' };
    const y = {
      ...decades(
        points.map(([, value]) => value),
        1.5,
      ),
      label: 'gigabytes',
    };
    return lineChart({ series, x, y, width: width - (narrow ? 228 : 262), height: narrow ? 330 : 400 });
  },
};
