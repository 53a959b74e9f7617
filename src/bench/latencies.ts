import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';

/** Nanoseconds. */
export interface Percentiles {
  samples: number;
  p50Ns: number;
  p90Ns: number;
  p99Ns: number;
  p999Ns: number;
  maxNs: number;
}

/** An hour: whatever takes longer is counted as that. */
const HIGHEST_NS = 3_600_000_000_000;
/** Figures of a value that are kept: a percentile is off by a thousandth at most. */
const FIGURES = 3;

/** How long operations took, in an HDR histogram, whose size does not depend on how many there are. */
export class Latencies {
  private readonly histogram: RecordableHistogram = createHistogram({ lowest: 1, highest: HIGHEST_NS, figures: FIGURES });

  record(nanoseconds: number): void {
    // The clock of some machines stands still for longer than an operation takes, and the histogram has no zero.
    this.histogram.record(Math.min(HIGHEST_NS, Math.max(1, Math.round(nanoseconds))));
  }

  add(other: Latencies): void {
    this.histogram.add(other.histogram);
  }

  get percentiles(): Percentiles {
    const { histogram } = this;
    if (histogram.count === 0) return { samples: 0, p50Ns: 0, p90Ns: 0, p99Ns: 0, p999Ns: 0, maxNs: 0 };
    return {
      samples: histogram.count,
      p50Ns: histogram.percentile(50),
      p90Ns: histogram.percentile(90),
      p99Ns: histogram.percentile(99),
      p999Ns: histogram.percentile(99.9),
      maxNs: histogram.max,
    };
  }
}
