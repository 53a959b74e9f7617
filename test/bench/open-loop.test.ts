import test from 'ava';
import { closedLoop } from '../../dist/bench/closed-loop.js';
import { Latencies } from '../../dist/bench/latencies.js';
import { openLoop } from '../../dist/bench/open-loop.js';
import { MadeTime } from './made-time.js';

const MS = 1e6;

/** A server that takes 0.1 ms for each request, one after another, and 500 ms for one of them. */
function stalling(time: MadeTime, slow: number): { operate: () => Promise<void>; slowRequests: () => number } {
  let requests = 0;
  let slowRequests = 0;
  const operate = () => {
    const isSlow = requests++ === slow;
    if (isSlow) slowRequests++;
    return time.sleep(isSlow ? 500 : 0.1);
  };
  return { operate, slowRequests: () => slowRequests };
}

test('a server that stalls once shows in p99, although one request alone was slow from when it was sent', async (t) => {
  const time = new MadeTime();
  const { operate, slowRequests } = stalling(time, 100);
  const latencies = new Latencies();
  const fromSending = new Latencies();
  const delays = new Latencies();
  const timed = async () => {
    const sent = time.now();
    await operate();
    fromSending.record(time.now() - sent);
  };
  const served = await openLoop({ rate: 1000, seconds: 2, lanes: 1 }, timed, latencies, time, delays);
  t.is(served.operations, 2000);
  t.is(served.unsent, 0);
  t.is(slowRequests(), 1);
  const { samples, p50Ns, p99Ns, maxNs } = latencies.percentiles;
  t.is(samples, 2000);
  // Of the 2,000 requests 500 were due during the stall, and the last hundredth of all waited for more than 400 ms.
  t.true(p99Ns > 400 * MS, `${p99Ns}`);
  t.true(p50Ns < MS, `${p50Ns}`);
  t.true(maxNs >= 499 * MS, `${maxNs}`);
  t.true(fromSending.percentiles.p99Ns < MS, 'what a client sees that waits before it sends');
  t.true(fromSending.percentiles.maxNs > 499 * MS);
  t.true(delays.percentiles.p99Ns > 400 * MS, 'the rest went by before sending');
  t.is(delays.percentiles.samples, 2000);
});

test('the same stall hides from a closed loop, which sends nothing meanwhile', async (t) => {
  const time = new MadeTime();
  const { operate } = stalling(time, 100);
  const latencies = new Latencies();
  const isOver = closedLoop({ lanes: 1, seconds: 2, timedEach: 1 }, operate, latencies, time);
  let over = false;
  isOver.then(() => {
    over = true;
  });
  while (!over) await time.turn(0);
  t.true(latencies.percentiles.p99Ns < MS);
});

test('requests are due at equal distances, and a server that keeps up gets each when it is due', async (t) => {
  const time = new MadeTime();
  const sent: number[] = [];
  const latencies = new Latencies();
  const operate = async () => {
    sent.push(time.now() / MS);
    await time.sleep(30);
  };
  await openLoop({ rate: 100, seconds: 0.1, lanes: 64 }, operate, latencies, time, new Latencies());
  t.deepEqual(sent, [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
  t.true(latencies.percentiles.maxNs < 31 * MS);
});

test('of a server that cannot keep up, what was due and not sent is counted with the time it has waited', async (t) => {
  const time = new MadeTime();
  const latencies = new Latencies();
  const { operations, unsent } = await openLoop(
    { rate: 1000, seconds: 1, lanes: 2 },
    () => time.sleep(10),
    latencies,
    time,
    new Latencies(),
  );
  t.is(operations + unsent, 1000);
  t.true(operations <= 210 && unsent >= 790, `${operations} ${unsent}`);
  t.is(latencies.percentiles.samples, 1000);
  t.true(latencies.percentiles.p50Ns > 300 * MS);
});

test('never more requests are under way than there are lanes', async (t) => {
  const time = new MadeTime();
  let underWay = 0;
  let most = 0;
  const operate = async () => {
    most = Math.max(most, ++underWay);
    await time.sleep(50);
    underWay--;
  };
  await openLoop({ rate: 1000, seconds: 0.2, lanes: 4 }, operate, new Latencies(), time, new Latencies());
  t.is(most, 4);
});

test('an answer that is wrong ends the measurement', async (t) => {
  const time = new MadeTime();
  let requests = 0;
  const operate = async () => {
    await time.sleep(1);
    if (++requests === 3) throw new Error('wrong');
  };
  await t.throwsAsync(openLoop({ rate: 1000, seconds: 1, lanes: 4 }, operate, new Latencies(), time, new Latencies()), {
    message: 'wrong',
  });
  t.true(requests < 100);
});

test('a closed loop keeps its lanes busy, counts all operations and times one in so many', async (t) => {
  const time = new MadeTime();
  const latencies = new Latencies();
  let underWay = 0;
  let most = 0;
  const operate = async () => {
    most = Math.max(most, ++underWay);
    await time.sleep(10);
    underWay--;
  };
  const running = closedLoop({ lanes: 8, seconds: 1, timedEach: 4 }, operate, latencies, time);
  let over = false;
  running.then(() => {
    over = true;
  });
  while (!over) await time.turn(0);
  const { operations, seconds } = await running;
  t.is(most, 8);
  t.true(operations >= 800 && operations <= 832, `${operations}`);
  t.true(seconds >= 1 && seconds < 1.1);
  t.true(Math.abs(latencies.percentiles.samples - operations / 4) <= 8);
  t.true(latencies.percentiles.maxNs < 11 * MS);
});

test('percentiles are those of what was recorded, and histograms add up', (t) => {
  const latencies = new Latencies();
  t.is(latencies.percentiles.samples, 0);
  for (let value = 1; value <= 1000; value++) latencies.record(value * 1000);
  const { p50Ns, p90Ns, p99Ns, p999Ns, maxNs } = latencies.percentiles;
  const near = (value: number, expected: number) => t.true(Math.abs(value / expected - 1) < 0.002, `${value} ${expected}`);
  for (const [value, expected] of [
    [p50Ns, 500e3],
    [p90Ns, 900e3],
    [p99Ns, 990e3],
    [p999Ns, 999e3],
    [maxNs, 1e6],
  ] as const) {
    near(value, expected);
  }
  const other = new Latencies();
  other.record(0);
  other.record(5e15);
  latencies.add(other);
  t.is(latencies.percentiles.samples, 1002, 'what is too short or too long for the histogram is in it');
});
