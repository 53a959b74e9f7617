/** Median and quartiles of a series: how far a figure wandered during the run. */
export interface Spread {
  median: number;
  low: number;
  high: number;
}

/** Of two series, the quartiles of their turns' ratios. */
export interface Ratio {
  ratio: number;
  low: number;
  high: number;
}

/** The middle value; NaN of nothing. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length % 2 === 1) return sorted[middle] as number;
  return ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2;
}

export function quartiles(values: readonly number[]): [low: number, high: number] {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
  return [at(0.25), at(0.75)];
}

export function spreadOf(values: readonly number[]): Spread {
  const [low, high] = quartiles(values);
  return { median: median(values), low, high };
}

/** Of two series measured in turn: the ratio is taken within each turn, so that a slow spell of the machine hits both sides. */
export function pairedRatio(above: readonly number[], below: readonly number[]): Ratio {
  const turns = Math.min(above.length, below.length);
  const ratios = Array.from({ length: turns }, (_, turn) => (above[turn] as number) / (below[turn] as number));
  const { median: ratio, low, high } = spreadOf(ratios);
  return { ratio, low, high };
}
