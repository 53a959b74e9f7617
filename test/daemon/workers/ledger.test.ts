import { Worker } from 'node:worker_threads';
import test from 'ava';
import { Accounts } from '../../../dist/daemon/accounts.js';
import { Counters } from '../../../dist/daemon/counters.js';
import { Bucket, type RateLimits } from '../../../dist/daemon/rates.js';
import { Ledger } from '../../../dist/daemon/workers/ledger.js';
import { MAX_ACCOUNTS, MAX_HELD_BYTES } from '../../../dist/limits.js';

const LIMITS: RateLimits = { requestsPerSecond: 100, bytesPerSecond: 1_000, burstMs: 500 };

/** The views that the main thread and two others have of one ledger. */
function views(): [Ledger, Ledger, Ledger] {
  const main = Ledger.beside(2);
  return [main, new Ledger(main.memory, 3, 1), new Ledger(main.memory, 3, 2)];
}

test('what threads count in one place is one sum, and what one that ended has left is taken out of it', (t) => {
  const [main, one, other] = views();
  const place = main.open();
  const [mine, its, others] = [main.cells(place), one.cells(place), other.cells(place)];
  mine.requests.add(1);
  its.requests.add(2);
  others.requests.add(4);
  its.held.add(10);
  t.is(one.held.take(100), true);
  for (const cells of [mine, its, others]) t.is(cells.requests.total, 7);
  main.forget(1);
  t.is(others.requests.total, 5);
  t.is(mine.held.total, 0);
  t.is(main.held.bytes, 0);
  other.settle([place, 3, 0]);
  t.is(mine.requests.total, 2);
  t.is(main.cells(main.open()).requests.total, 0, 'another place is another sum');
});

test('all threads together hold no more than one alone may', (t) => {
  const [main, one, other] = views();
  t.true(one.held.take(MAX_HELD_BYTES - 1));
  t.false(other.held.take(2));
  t.true(main.held.take(1));
  t.false(other.held.take(1));
  one.held.give(1);
  t.true(other.held.take(1));
});

test('limits hold on every thread from when they are set', (t) => {
  const [main, one] = views();
  main.replace(LIMITS);
  t.deepEqual({ ...one.limits }, LIMITS);
});

test('a bucket of several threads owes what one of a single thread does', (t) => {
  const [main, one] = views();
  const place = main.open();
  const of = (ledger: Ledger) => {
    const { requestsPaidAt, bytesPaidAt } = ledger.cells(place);
    return new Bucket(LIMITS, requestsPaidAt, bytesPaidAt);
  };
  const [shared, alone] = [[of(main), of(one)], new Bucket(LIMITS)];
  let now = performance.now();
  for (let step = 0; step < 200; step++) {
    const [requests, bytes] = [(step * 7) % 5, (step * 13) % 90];
    shared[step % 2]!.charge(requests, bytes, now);
    alone.charge(requests, bytes, now);
    now += (step * 29) % 61;
    for (const bucket of shared) t.true(Math.abs(bucket.debt(now) - alone.debt(now)) < 1, `step ${step}`);
  }
});

test('an account that is forgotten leaves its place to another one, and no more places are taken than there are', (t) => {
  const ledger = Ledger.beside(1);
  const accounts = new Accounts({ ...LIMITS, requestsPerSecond: 0, bytesPerSecond: 0 }, () => {}, undefined, ledger);
  const named = (n: number) => ({ actor: `a${n}`, roles: new Set(['client' as const]) });
  const places = new Set<number>();
  for (let round = 0; round < 3; round++) {
    for (let n = 0; n < MAX_ACCOUNTS; n++) places.add(accounts.of(named(n)).place);
    accounts.sweep();
  }
  t.is(places.size, MAX_ACCOUNTS);
  t.false(
    places.has(accounts.of({ actor: 'x', roles: new Set() }).place) &&
      accounts.of(named(1)).place === accounts.of(named(2)).place,
  );
});

test('threads that charge one bucket at the same time lose nothing of it', async (t) => {
  const main = Ledger.beside(2);
  const place = main.open();
  const program = `
    import { workerData } from 'node:worker_threads';
    const { Ledger } = await import(workerData.module);
    const cells = new Ledger(workerData.memory, 3, workerData.own).cells(workerData.place);
    for (let n = 0; n < 20_000; n++) { cells.requestsPaidAt.advance(0, 1); cells.requests.add(1); }`;
  const module = new URL('../../../dist/daemon/workers/ledger.js', import.meta.url).href;
  const from = performance.now() + 60_000;
  main.cells(place).requestsPaidAt.advance(from, 0);
  const ends = [1, 2].map((own) => {
    const workerData = { module, memory: main.memory, own, place };
    const url = new URL(`data:text/javascript,${encodeURIComponent(program)}`);
    return new Promise((resolve, reject) => {
      new Worker(url, { workerData }).on('exit', resolve).on('error', reject);
    });
  });
  t.deepEqual(await Promise.all(ends), [0, 0]);
  t.is(main.cells(place).requests.total, 40_000);
  t.is(Math.round(main.cells(place).requestsPaidAt.at - from), 40_000);
});

test('counters of several threads are read as one', (t) => {
  const all = new Counters();
  const [one, other] = [new Counters(), new Counters()];
  all.include(one);
  all.include(other);
  all.refused('rate');
  one.refused('rate', 2);
  other.refused('peer');
  one.answered('binary', 3, 'BUSY');
  other.answered('binary', 3, 'BUSY');
  other.took('binary', 3, 2_000);
  t.is(all.refusalsFor('rate'), 3);
  t.is(all.refusalsFor('peer'), 1);
  t.is(
    all.outcomesOf('binary', 3).reduce((a, b) => a + b),
    2,
  );
  const { buckets, seconds } = all.timesOf('binary', 3);
  t.is(
    buckets.reduce((a, b) => a + b),
    1,
  );
  t.is(seconds, 2);
});
