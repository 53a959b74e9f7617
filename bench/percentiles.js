import { createHistogram } from 'node:perf_hooks';

/** Percentiles, in microseconds, of latencies in units of so many nanoseconds. */
export function percentilesOf(latencies, unitNs) {
  const histogram = createHistogram({ lowest: 1, highest: 2 ** 32, figures: 3 });
  let max = 0;
  for (const latency of latencies) {
    histogram.record(latency);
    if (latency > max) max = latency;
  }
  const microseconds = (units) => (units * unitNs) / 1000;
  const at = (percentile) => microseconds(histogram.percentile(percentile));
  return { samples: histogram.count, p50: at(50), p90: at(90), p99: at(99), p999: at(99.9), max: microseconds(max) };
}
