import test from 'ava';
import { Bucket, OverRate, type RateLimits } from '../../dist/daemon/rates.js';
import { MAX_DEBT_MS } from '../../dist/limits.js';
import { NO_LIMIT } from '../../dist/native.js';

const limits: RateLimits = { requestsPerSecond: 100, bytesPerSecond: 0, burstMs: 500 };
const NOW = 10_000;

test('without limits there is room for everything, and nothing is ever owed', (t) => {
  const bucket = new Bucket({ requestsPerSecond: 0, bytesPerSecond: 0, burstMs: 0 });
  t.false(bucket.isLimited);
  t.is(bucket.room(NOW), NO_LIMIT);
  bucket.charge(1e9, 1e12, NOW);
  t.true(bucket.debt(NOW) <= 0);
  t.is(bucket.take(NOW), 0);
});

test('what was saved up is there at once, the rest is owed until the rate has paid it', (t) => {
  const bucket = new Bucket(limits);
  bucket.charge(50, 0, NOW);
  t.is(bucket.debt(NOW), 0);
  bucket.charge(20, 0, NOW);
  t.is(bucket.debt(NOW), 200);
  t.is(bucket.debt(NOW + 150), 50);
  t.is(bucket.debt(NOW + 200), 0);
  t.false(bucket.isRested(NOW + 699));
  t.true(bucket.isRested(NOW + 700));
  bucket.charge(60, 0, NOW + 60_000);
  t.is(bucket.debt(NOW + 60_000), 100, 'a minute saves up no more than the burst');
});

test('there is room for what keeps the debt within its bound, and none beyond it', (t) => {
  const bucket = new Bucket(limits);
  t.is(bucket.room(NOW), 50 + MAX_DEBT_MS / 10);
  bucket.charge(149, 0, NOW);
  t.is(bucket.room(NOW), 1);
  bucket.charge(1, 0, NOW);
  t.is(bucket.room(NOW), 0);
  t.is(bucket.room(NOW + 100), 10);
  // A batch may go over the edge as a whole.
  bucket.charge(1_000, 0, NOW + 100);
  t.is(bucket.room(NOW + 1_000), 0);
  t.is(bucket.room(NOW + 100_000), 150);
});

test('a request is told when its turn is, or is refused and then costs nothing', (t) => {
  const bucket = new Bucket({ ...limits, burstMs: 0 });
  t.is(bucket.take(NOW), 10);
  t.is(bucket.take(NOW), 20);
  bucket.charge(98, 0, NOW);
  const error = t.throws(() => bucket.take(NOW), { instanceOf: OverRate, code: 'BUSY' });
  t.is(error?.retryAfterMs, 1_000);
  t.is(bucket.debt(NOW), 1_000);
  t.is(bucket.take(NOW + 1_000), 10);
});

test('bytes are owed beside requests, and the larger debt counts', (t) => {
  const bucket = new Bucket({ requestsPerSecond: 100, bytesPerSecond: 1_000, burstMs: 0 });
  bucket.charge(1, 500, NOW);
  t.is(bucket.debt(NOW), 500);
  bucket.charge(70, 0, NOW);
  t.is(bucket.debt(NOW), 710);
  bucket.charge(0, 500, NOW);
  t.is(bucket.room(NOW), 0);
  const bytesOnly = new Bucket({ requestsPerSecond: 0, bytesPerSecond: 1_000, burstMs: 0 });
  t.is(bytesOnly.room(NOW), NO_LIMIT);
  bytesOnly.charge(1_000, 1_000, NOW);
  t.is(bytesOnly.room(NOW), 0);
});

test('who waits pays for one request before it goes on, so that others go on waiting', (t) => {
  const bucket = new Bucket({ ...limits, burstMs: 0 });
  bucket.charge(5, 0, NOW);
  t.is(bucket.turn(NOW), 50);
  t.is(bucket.turn(NOW + 50), 0);
  t.is(bucket.turn(NOW + 50), 10);
});

test('other limits hold at once, also for what is owed', (t) => {
  const bucket = new Bucket({ ...limits, burstMs: 0 });
  bucket.charge(100, 0, NOW);
  bucket.replace({ requestsPerSecond: 0, bytesPerSecond: 0, burstMs: 0 });
  t.is(bucket.room(NOW), NO_LIMIT);
  t.true(bucket.debt(NOW) <= 0);
  bucket.replace({ ...limits, burstMs: 900 });
  t.is(bucket.debt(NOW), 100);
});
