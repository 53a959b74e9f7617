import { ERROR_TABLE, type ErrorCode } from '../errors.js';
import { TIME_BUCKETS } from '../native.js';
import { OPERATIONS } from '../wire/frames.js';

export const SURFACES = ['binary', 'http'] as const;
export type Surface = (typeof SURFACES)[number];

/** What an operation is called: those of the protocol by their numbers, what only HTTP has, and last everything else. */
export const OPERATION_NAMES = [...OPERATIONS.map(({ name }) => name), 'health', 'ready', 'metrics', 'openapi', 'other'] as const;
export const OTHER = OPERATION_NAMES.length - 1;

/** `ok`, then the codes by their wire numbers. */
export const OUTCOMES: ReadonlyArray<'ok' | ErrorCode> = ['ok', ...(Object.keys(ERROR_TABLE) as ErrorCode[])];

/** Why somebody was turned away, where no request's outcome says so. */
export const REASONS = ['peer', 'connections', 'protocol', 'rate'] as const;
export type Reason = (typeof REASONS)[number];

/** Where an operation's number, which a peer may have made up, is counted. */
export function placeOf(op: number): number {
  return op >= 0 && op < OPERATIONS.length ? op : OTHER;
}

/** The first bucket of times ends at this, each next one at twice the one before. */
export const FIRST_BUCKET_MS = 0.01;

function bucketOf(milliseconds: number): number {
  const ticks = Math.ceil(milliseconds / FIRST_BUCKET_MS);
  if (ticks <= 1) return 0;
  return ticks > 2 ** 31 ? TIME_BUCKETS - 1 : Math.min(32 - Math.clz32(ticks - 1), TIME_BUCKETS - 1);
}

const SERIES = SURFACES.length * OPERATION_NAMES.length;
const ANSWERS = SERIES * OUTCOMES.length;
const BUCKETS = SERIES * TIME_BUCKETS;
/** Of the memory of one thread's counters. */
export const COUNTERS_BYTES = 8 * (ANSWERS + BUCKETS + SERIES + REASONS.length + SURFACES.length);

/**
 * Counts what is served outside of the native core, which counts its own. Every label has its places from the beginning, so that
 * nothing that a peer sends makes this larger, and counting allocates nothing. What is read is the sum over all threads.
 */
export class Counters {
  private readonly answers: Float64Array;
  private readonly buckets: Float64Array;
  private readonly sums: Float64Array;
  private readonly refusals: Float64Array;
  private readonly underWay: Float64Array;
  /** Of threads that count for themselves. */
  private readonly others: Counters[] = [];

  /** One thread counts in a memory, others may read it: a number of eight bytes is never seen half written. */
  constructor(memory: ArrayBuffer | SharedArrayBuffer = new ArrayBuffer(COUNTERS_BYTES)) {
    let at = 0;
    const next = (length: number) => {
      at += 8 * length;
      return new Float64Array(memory, at - 8 * length, length);
    };
    this.answers = next(ANSWERS);
    this.buckets = next(BUCKETS);
    this.sums = next(SERIES);
    this.refusals = next(REASONS.length);
    this.underWay = next(SURFACES.length);
  }

  /** What another thread counts in its memory is counted here as well from now on. */
  include(other: Counters): void {
    this.others.push(other);
  }

  /** Somebody was turned away. */
  refused(reason: Reason, count = 1): void {
    this.refusals[REASONS.indexOf(reason)]! += count;
  }

  /** A request has begun to wait for something; `left` follows. */
  entered(surface: Surface): void {
    this.underWay[SURFACES.indexOf(surface)]!++;
  }

  left(surface: Surface): void {
    this.underWay[SURFACES.indexOf(surface)]!--;
  }

  /** `place` is an index of `OPERATION_NAMES`. */
  answered(surface: Surface, place: number, outcome: 'ok' | ErrorCode): void {
    const at = outcome === 'ok' ? 0 : ERROR_TABLE[outcome].wire;
    this.answers[seriesOf(surface, place) * OUTCOMES.length + at]!++;
  }

  took(surface: Surface, place: number, milliseconds: number): void {
    const series = seriesOf(surface, place);
    this.buckets[series * TIME_BUCKETS + bucketOf(milliseconds)]!++;
    this.sums[series]! += milliseconds;
  }

  refusalsFor(reason: Reason): number {
    return this.sum((one) => one.refusals[REASONS.indexOf(reason)]!);
  }

  inFlight(surface: Surface): number {
    return this.sum((one) => one.underWay[SURFACES.indexOf(surface)]!);
  }

  /** By outcome. */
  outcomesOf(surface: Surface, place: number): Float64Array {
    const from = seriesOf(surface, place) * OUTCOMES.length;
    return this.row((one) => one.answers, from, OUTCOMES.length);
  }

  /** By bucket, and all together. */
  timesOf(surface: Surface, place: number): { buckets: Float64Array; seconds: number } {
    const series = seriesOf(surface, place);
    const from = series * TIME_BUCKETS;
    const buckets = this.row((one) => one.buckets, from, TIME_BUCKETS);
    return { buckets, seconds: this.sum((one) => one.sums[series]!) / 1_000 };
  }

  private sum(of: (one: Counters) => number): number {
    return this.others.reduce((sum, other) => sum + of(other), of(this));
  }

  private row(of: (one: Counters) => Float64Array, from: number, length: number): Float64Array {
    return Float64Array.from({ length }, (_, at) => this.sum((one) => of(one)[from + at]!));
  }
}

function seriesOf(surface: Surface, place: number): number {
  return SURFACES.indexOf(surface) * OPERATION_NAMES.length + place;
}
