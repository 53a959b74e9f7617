// Quantities that no single machine has: decimal bytes, days, and billions.

const scaled = (value, units) => {
  const [size, unit] = units.find(([from]) => value >= from) ?? units.at(-1);
  return `${Number((value / size).toPrecision(value / size >= 1000 ? 4 : 3))} ${unit}`;
};

export const decimal = (bytes) =>
  scaled(bytes, [
    [1e15, 'PB'],
    [1e12, 'TB'],
    [1e9, 'GB'],
    [1e6, 'MB'],
    [1e3, 'kB'],
    [1, 'B'],
  ]);

export const span = (seconds) =>
  scaled(seconds, [
    [86_400, 'days'],
    [3_600, 'hours'],
    [60, 'minutes'],
    [1, 's'],
    [1e-3, 'ms'],
  ]);

/** `1 billion`, `46.7 million`, `400,000`. */
export const many = (value) =>
  value < 1e6
    ? Math.round(value).toLocaleString('en-US')
    : scaled(value, [
        [1e9, 'billion'],
        [1e6, 'million'],
      ]);
