// Numbers as people read them, always with their unit.

const fixed = (value) => (value >= 100 ? value.toFixed(0) : value.toFixed(value < 10 ? 2 : 1));

export const count = (value) => Math.round(value).toLocaleString('en-US');
export const short = (value) => (value === 0 || value >= 10_000 ? count(value) : fixed(value));
export const amount = (value, unit) => (value === undefined ? '–' : `${short(value)}${unit}`);

/** A median with its quartiles, where it has some. */
export const spread = (measured, unit = 'x') =>
  measured?.low === undefined
    ? amount(measured?.ratio, unit)
    : `${amount(measured.ratio, unit)} (${short(measured.low)}–${short(measured.high)})`;

/** Two significant digits, for figures that stand alone: `11x`, `1.2x`, `0.39x`. */
export function times(ratio) {
  const rounded = Number(ratio.toPrecision(2));
  return `${rounded >= 10 ? count(rounded < 100 ? rounded : ratio) : rounded}x`;
}

const scaled = (value, units) => {
  const [least, unit] = units.find(([from]) => Number((value / from).toPrecision(3)) >= 1) ?? units.at(-1);
  return `${Number((value / least).toPrecision(3))} ${unit}`;
};

/** `1.47 M`, `42.8 k`, `850`. */
export const large = (value) =>
  value < 1000
    ? `${Number(value.toPrecision(3))}`
    : scaled(value, [
        [1e6, 'M'],
        [1e3, 'k'],
      ]);
export const rate = (perSecond) => `${large(perSecond)}/s`;

export const micros = (us) =>
  scaled(us, [
    [1e6, 's'],
    [1e3, 'ms'],
    [1, 'µs'],
    [1e-3, 'ns'],
  ]);
export const time = (ns) =>
  ns >= 1e6 ? `${(ns / 1e6).toFixed(2)} ms` : ns >= 10_000 ? `${(ns / 1000).toFixed(1)} µs` : `${count(ns)} ns`;

export const bytes = (size) =>
  scaled(size, [
    [2 ** 30, 'GiB'],
    [2 ** 20, 'MiB'],
    [1024, 'KiB'],
    [1, 'B'],
  ]);
/** Bytes per nanosecond are gigabytes per second. */
export const gigabytes = (perNs) =>
  scaled(perNs, [
    [1, 'GB/s'],
    [1e-3, 'MB/s'],
    [1e-6, 'kB/s'],
  ]);
