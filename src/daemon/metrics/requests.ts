import { ERROR_TABLE, type ErrorCode, FAILURES } from '../../errors.js';
import { binding, COUNTS, TIME_BUCKETS } from '../../native.js';
import { OP } from '../../wire/frames.js';
import {
  type Counters,
  FIRST_BUCKET_MS,
  OPERATION_NAMES,
  OTHER,
  OUTCOMES,
  REASONS,
  type Reason,
  SURFACES,
  type Surface,
} from '../counters.js';
import { PREFIX, type Sample, type Series } from './series.js';

/** Places of the operations that the native core counts, in its order. */
const NATIVE_PLACES = [OP.encrypt, OP.decrypt, OP.encryptMany, OP.decryptMany, OTHER];

/** Refusals that are the outcomes of requests. */
const REFUSALS = {
  unauthenticated: 'UNAUTHENTICATED',
  permission: 'PERMISSION_DENIED',
  sealed: 'SEALED',
  busy: 'BUSY',
  too_large: 'TOO_LARGE',
} as const satisfies Record<string, ErrorCode>;

/** Upper ends of the buckets in seconds, without rounding errors to be seen in labels. */
const ENDS = Array.from({ length: TIME_BUCKETS - 1 }, (_, at) => Number(((FIRST_BUCKET_MS * 2 ** at) / 1_000).toPrecision(8)));

/** Every surface with every operation: a peer cannot make more of them. */
const ALL = SURFACES.flatMap((surface) =>
  OPERATION_NAMES.map((operation, place) => ({ surface, place, labels: { surface, operation } })),
);

interface Times {
  buckets: Float64Array;
  seconds: number;
}

/** What was served, by surface and operation: our own counts and those of the native core in one. */
export class Served {
  private readonly native = binding.readCounts();

  constructor(private readonly counters: Counters) {}

  outcomes(surface: Surface, place: number): Float64Array {
    const counts = this.counters.outcomesOf(surface, place);
    const at = surface === 'binary' ? NATIVE_PLACES.indexOf(place) : -1;
    return at < 0 ? counts : counts.map((count, outcome) => count + this.native[at * COUNTS.outcomes + outcome]!);
  }

  times(surface: Surface, place: number): Times {
    const { buckets, seconds } = this.counters.timesOf(surface, place);
    const at = surface === 'binary' ? NATIVE_PLACES.indexOf(place) : -1;
    if (at < 0) return { buckets, seconds };
    const from = COUNTS.timesAt + at * TIME_BUCKETS;
    return {
      buckets: buckets.map((count, bucket) => count + this.native[from + bucket]!),
      seconds: seconds + this.native[COUNTS.nanosecondsAt + at]! / 1e9,
    };
  }

  /** Of all requests together. */
  total(code: ErrorCode): number {
    const { wire } = ERROR_TABLE[code];
    return ALL.reduce((sum, { surface, place }) => sum + this.outcomes(surface, place)[wire]!, 0);
  }
}

/** Only what has happened: most operations are never asked for over most surfaces. */
function outcomeSamples(served: Served): Sample[] {
  const samples: Sample[] = [];
  for (const { surface, place, labels } of ALL) {
    const counts = served.outcomes(surface, place);
    for (const [at, value] of counts.entries()) {
      if (value > 0) samples.push({ labels: { ...labels, outcome: OUTCOMES[at]! }, value });
    }
  }
  return samples;
}

function timeSamples(served: Served, name: string): Sample[] {
  const samples: Sample[] = [];
  for (const { surface, place, labels } of ALL) {
    const { buckets, seconds } = served.times(surface, place);
    const all = buckets.reduce((sum, count) => sum + count, 0);
    if (all === 0) continue;
    let below = 0;
    for (const [at, le] of ENDS.entries()) {
      below += buckets[at]!;
      samples.push({ metricName: `${name}_bucket`, labels: { ...labels, le }, value: below });
    }
    samples.push({ metricName: `${name}_bucket`, labels: { ...labels, le: '+Inf' }, value: all });
    samples.push({ metricName: `${name}_sum`, labels, value: seconds }, { metricName: `${name}_count`, labels, value: all });
  }
  return samples;
}

function refusalSamples(counters: Counters, served: Served): Sample[] {
  const ofRequests = Object.entries(REFUSALS).map(([reason, code]) => [reason, served.total(code)] as const);
  const own = REASONS.map((reason: Reason) => [reason, counters.refusalsFor(reason)] as const);
  return [...own, ...ofRequests].map(([reason, value]) => ({ labels: { reason }, value }));
}

/** Requests: how many, how they ended, how long they took, and who was turned away. */
export function requestSeries(counters: Counters): Series[] {
  const seconds = `${PREFIX}request_seconds`;
  return [
    {
      name: `${PREFIX}requests_total`,
      help: 'Requests answered; a batch is one.',
      type: 'counter',
      read: () => outcomeSamples(new Served(counters)),
    },
    {
      name: seconds,
      help: 'Time inside the daemon, from the request being there whole to its answer being ready.',
      type: 'histogram',
      read: () => timeSamples(new Served(counters), seconds),
    },
    {
      name: `${PREFIX}failures_total`,
      help: 'Requests that failed for a reason of the daemon.',
      type: 'counter',
      read: () => {
        const served = new Served(counters);
        return [{ labels: {}, value: [...FAILURES].reduce((sum, code) => sum + served.total(code), 0) }];
      },
    },
    {
      name: `${PREFIX}refusals_total`,
      help: 'Connections and requests turned away.',
      type: 'counter',
      read: () => refusalSamples(counters, new Served(counters)),
    },
    {
      name: `${PREFIX}requests_in_flight`,
      help: 'Requests that wait for the disk, the pool or a body.',
      type: 'gauge',
      read: () => SURFACES.map((surface) => ({ labels: { surface }, value: counters.inFlight(surface) })),
    },
  ];
}
