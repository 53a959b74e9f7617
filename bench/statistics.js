/** The middle value; NaN of nothing. */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Quartiles, to show how far a figure wandered during the run. */
export function quartiles(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  return [at(0.25), at(0.75)];
}

/** `{ratio, low, high}` of two series measured in turn: the ratio is taken within each turn, so a slow spell hits both sides. */
export function pairedRatio(above, below) {
  const turns = Math.min(above.length, below.length);
  const ratios = Array.from({ length: turns }, (_, i) => above[i] / below[i]);
  const [low, high] = quartiles(ratios);
  return { ratio: median(ratios), low, high };
}
