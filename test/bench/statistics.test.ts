import test from 'ava';
import type { Percentiles } from '../../dist/bench/latencies.js';
import type { Group } from '../../dist/bench/plan.js';
import type { Block } from '../../dist/bench/questions.js';
import { rowOfRotations, rowsOf } from '../../dist/bench/rows.js';
import { median, pairedRatio, quartiles, spreadOf } from '../../dist/bench/statistics.js';

const latencyOf = (p99Ns: number): Percentiles => ({ samples: 1, p50Ns: 1, p90Ns: 1, p99Ns, p999Ns: p99Ns, maxNs: p99Ns });

function block(operations: number, p99Ns = 1): Block {
  const latency = latencyOf(p99Ns);
  return { operations, seconds: 2, latency, pooled: latency, delays: latency, cpuNs: 100 * operations, unsent: 1, verified: 3 };
}

const decrypt: Group = {
  mode: 'daemon',
  operation: 'decrypt',
  size: 1024,
  connections: 2,
  inFlight: 8,
  subjects: ['binary', 'node:http'],
};

const seriesOf = (ours: Block[], other: Block[]) => [
  { subject: 'binary', blocks: ours, serverCpuNs: [1000, 2000, 9000], keys: 7 },
  { subject: 'node:http', blocks: other, serverCpuNs: [undefined, undefined, undefined], keys: 7 },
];

test('the median is the middle value, of an even number the mean of the two in the middle', (t) => {
  t.is(median([9, 1, 5]), 5);
  t.is(median([1, 2, 4, 100]), 3);
  t.true(Number.isNaN(median([])));
  t.deepEqual(quartiles([5, 1, 4, 2, 3]), [2, 4]);
  t.deepEqual(spreadOf([3, 1, 2]), { median: 2, low: 1, high: 3 });
});

test('a ratio is taken within each turn, so that a slow spell that hits both sides does not change it', (t) => {
  t.deepEqual(pairedRatio([100, 10, 200], [50, 5, 100]), { ratio: 2, low: 2, high: 2 });
  t.is(pairedRatio([100, 10, 200], [50, 5]).ratio, 2, 'a turn that is not whole is left out');
});

test('decryptions are compared with the decryptions of the baseline beside them, block by block', (t) => {
  const [ours, other] = rowsOf(decrypt, seriesOf([block(400), block(20), block(800)], [block(100), block(10), block(100)]), null);
  t.deepEqual(ours?.againstBaseline, { ratio: 4, low: 2, high: 8 });
  t.like(ours, { operation: 'decrypt', by: 'binary', perSecond: { median: 200, low: 10, high: 400 }, cpuNs: 100, keys: 7 });
  t.like(ours, { connections: 2, inFlight: 8, size: 1024, unsent: 3, verified: 9, blocks: 3 });
  t.is(ours?.serverCpuNs, 1000 / 100 + 1.25, 'the median of 2.5, 100 and 11.25');
  t.like(other, { by: 'node:http', againstBaseline: null, serverCpuNs: null });
});

test('at a fixed rate it is the 99th percentiles that are compared: how much longer the other takes', (t) => {
  const [ours] = rowsOf(decrypt, seriesOf([block(9, 10), block(9, 20)], [block(9, 30), block(9, 60)]), 1000);
  t.deepEqual(ours?.againstBaseline, { ratio: 3, low: 3, high: 3 });
  t.is(ours?.rate, 1000);
  t.is(ours?.sendDelay?.p99Ns, 20, 'of all blocks so far, as the last one says');
});

test('without a baseline there is no ratio, and a rotation counts keys', (t) => {
  const [alone] = rowsOf(decrypt, seriesOf([block(4)], []).slice(0, 1), null);
  t.is(alone?.againstBaseline, null);
  const group = { ...decrypt, operation: 'rotate' as const, subjects: ['binary'] };
  const rotated = [1, 2, 4].map((seconds) => ({ keys: 100, seconds }));
  t.like(rowOfRotations(group, rotated), { perSecond: { median: 50, low: 25, high: 100 }, keys: 100, latency: null });
});
