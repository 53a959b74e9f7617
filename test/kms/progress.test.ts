import test from 'ava';
import { dueReason } from '../../dist/kms/due.js';
import { Pace, Progress } from '../../dist/kms/progress.js';
import type { KeyringKek } from '../../dist/store/key-store.js';

test('a pace of two a second has each begin half a second after the one before', (t) => {
  const pace = new Pace(2);
  t.deepEqual([pace.wait(10_000), pace.wait(10_000), pace.wait(10_100), pace.wait(10_900)], [0, 500, 900, 600]);
});

test('a pace does not make up for the time in which nothing began', (t) => {
  const pace = new Pace(10);
  t.is(pace.wait(0), 0);
  t.deepEqual([pace.wait(5_000), pace.wait(5_000), pace.wait(5_000)], [0, 100, 200]);
});

test('no pace is no wait', (t) => {
  const pace = new Pace(0);
  for (let n = 0; n < 5; n += 1) t.is(pace.wait(1), 0);
});

test('progress says how fast it was so far, and how long the rest takes at that', (t) => {
  const progress = new Progress(100, 1_000);
  t.is(progress.keysPerSecond(1_000), 0);
  t.is(progress.secondsLeft(3_000), null, 'nothing is done yet');
  for (let n = 0; n < 20; n += 1) progress.step();
  t.is(progress.keysPerSecond(3_000), 10);
  t.is(progress.secondsLeft(3_000), 8);
  for (let n = 0; n < 90; n += 1) progress.step();
  t.is(progress.secondsLeft(9_000), 0, 'keys that came on top are not waited for');
});

test('a rotation is due by the age of the KEK and by its wraps', (t) => {
  const kek = (createdAt: string, wrapsReserved: number): KeyringKek => {
    return { kekId: 'kek', kekVersion: 1, state: 'active', wrapped: new Uint8Array(60), wrapsReserved, createdAt };
  };
  const now = Date.parse('2026-06-01T00:00:00.000Z');
  t.is(dueReason(kek('2025-06-01T00:00:00.001Z', 2 ** 31 - 1), now, 365), null);
  t.is(dueReason(kek('2025-06-01T00:00:00.000Z', 0), now, 365), 'the active KEK is 365 days old');
  t.is(dueReason(kek('2020-06-01T00:00:00.000Z', 0), now, 0), null, '0 days is never');
  t.regex(dueReason(kek('2026-05-31T00:00:00.000Z', 2 ** 31), now, 365) ?? '', /wrapped up to 2147483648 keys/);
});
