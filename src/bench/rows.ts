import type { Percentiles } from './latencies.js';
import { type Group, type Mode, type Operation, PLAIN_CRYPTO, PLAIN_HTTP } from './plan.js';
import type { Block, Rotated } from './questions.js';
import { median, pairedRatio, type Ratio, type Spread, spreadOf } from './statistics.js';

/** What one way of doing one thing came to. */
export interface Row {
  mode: Mode;
  operation: Operation;
  /** A way to call, a protocol, or the baseline. */
  by: string;
  /** Bytes of a message. */
  size: number | null;
  connections: number | null;
  /** On each connection. */
  inFlight: number | null;
  /** Requests per second that were due; null in a closed loop. */
  rate: number | null;
  /** Of the rotation: keys per second. */
  perSecond: Spread;
  /** Over all blocks; from the instant at which a request was due if there is a rate. Null for a rotation. */
  latency: Percentiles | null;
  /** The part of it before a request was sent; null in a closed loop. */
  sendDelay: Percentiles | null;
  /** CPU time for each operation, of the calling process and of the server's, where that can be told. */
  cpuNs: number | null;
  serverCpuNs: number | null;
  /** Requests that were due and not sent. */
  unsent: number;
  /** Answers that were opened and compared; the length of every one was looked at. */
  verified: number;
  keys: number;
  blocks: number;
  /** Throughput over the baseline's; with a rate, the baseline's 99th percentile over ours. */
  againstBaseline: Ratio | null;
}

/** The blocks of one subject of a group, in the order of the turns. */
export interface Series {
  subject: string;
  blocks: Block[];
  /** Of the server, as each block's of its own. */
  serverCpuNs: Array<number | undefined>;
  keys: number;
}

export function isBaseline(by: string): boolean {
  return by === PLAIN_CRYPTO || by === PLAIN_HTTP;
}

export function rowsOf(group: Group, series: readonly Series[], rate: number | null): Row[] {
  const baseline = series.find(({ subject }) => isBaseline(subject));
  return series.map(({ subject, blocks, serverCpuNs, keys }) => {
    const each = (nanoseconds: (block: Block, turn: number) => number | undefined) => {
      const values = blocks.map((block, turn) => (nanoseconds(block, turn) ?? Number.NaN) / Math.max(1, block.operations));
      const value = median(values);
      return Number.isNaN(value) ? null : value;
    };
    const sum = (of: (block: Block) => number) => blocks.reduce((total, block) => total + of(block), 0);
    return {
      ...about(group),
      by: subject,
      rate,
      perSecond: spreadOf(blocks.map(rateOf)),
      latency: blocks.at(-1)?.pooled ?? null,
      sendDelay: rate === null ? null : (blocks.at(-1)?.delays ?? null),
      cpuNs: each(({ cpuNs }) => cpuNs),
      serverCpuNs: each((_, turn) => serverCpuNs[turn]),
      unsent: sum(({ unsent }) => unsent),
      verified: sum(({ verified }) => verified),
      keys,
      blocks: blocks.length,
      againstBaseline: baseline === undefined || isBaseline(subject) ? null : against(blocks, baseline.blocks, rate),
    };
  });
}

function against(ours: readonly Block[], other: readonly Block[], rate: number | null): Ratio {
  if (rate === null) return pairedRatio(ours.map(rateOf), other.map(rateOf));
  const p99 = ({ latency }: Block) => latency.p99Ns;
  return pairedRatio(other.map(p99), ours.map(p99));
}

export function rowOfRotations(group: Group, rotations: readonly Rotated[]): Row {
  return {
    ...about(group),
    by: group.subjects[0] as string,
    rate: null,
    perSecond: spreadOf(rotations.map(({ keys, seconds }) => keys / seconds)),
    latency: null,
    sendDelay: null,
    cpuNs: null,
    serverCpuNs: null,
    unsent: 0,
    verified: 0,
    keys: rotations.at(-1)?.keys ?? 0,
    blocks: rotations.length,
    againstBaseline: null,
  };
}

function about({ mode, operation, size, connections, inFlight }: Group) {
  return { mode, operation, size, connections, inFlight };
}

function rateOf({ operations, seconds }: Block): number {
  return operations / seconds;
}
