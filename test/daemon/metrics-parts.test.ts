import { syncBuiltinESMExports } from 'node:module';
import perfHooks from 'node:perf_hooks';
import test from 'ava';
import { Counters, FIRST_BUCKET_MS, OTHER, placeOf } from '../../dist/daemon/counters.js';
import { Census } from '../../dist/daemon/metrics/census.js';
import { stateSeries } from '../../dist/daemon/metrics/state.js';
import type { Service } from '../../dist/daemon/operations.js';
import { createToken } from '../../dist/daemon/token-writer.js';
import { KmsError } from '../../dist/errors.js';
import { CENSUS_INTERVAL_MS, CENSUS_TIME_MS } from '../../dist/limits.js';
import { binding, TIME_BUCKETS } from '../../dist/native.js';
import type { KeyDescription } from '../../dist/provider.js';
import { OP, OPERATIONS } from '../../dist/wire/frames.js';
import { askHttp, codeOf } from './http-peer.js';
import { running } from './running.js';
import { scrape } from './scrape.js';

/** The bucket that a time falls into. */
function bucketOf(milliseconds: number): number {
  const counters = new Counters();
  counters.took('http', OTHER, milliseconds);
  return counters.timesOf('http', OTHER).buckets.indexOf(1);
}

test('a time falls into the first bucket that ends at it or above', (t) => {
  t.is(bucketOf(0), 0);
  for (let bucket = 0; bucket < TIME_BUCKETS - 1; bucket++) {
    const end = FIRST_BUCKET_MS * 2 ** bucket;
    t.is(bucketOf(end * 0.999), bucket, `below ${end}`);
    t.is(bucketOf(end * 1.001), bucket + 1, `above ${end}`);
  }
  for (const huge of [1e6, 1e12, Number.MAX_SAFE_INTEGER]) t.is(bucketOf(huge), TIME_BUCKETS - 1);
});

test('an operation that there is not is counted as another', (t) => {
  t.is(placeOf(OP.encrypt), OP.encrypt);
  for (const op of [-1, OPERATIONS.length, 99, 2 ** 40, Number.NaN]) t.is(placeOf(op), OTHER);
});

test('keys are counted by state and age, and not again within a minute', async (t) => {
  const { daemon, connect } = await running(t, {});
  const peer = await connect();
  const ids: unknown[] = [];
  for (let n = 0; n < 4; n++) ids.push((await peer.ask(OP.createDek, null)).results[0]);
  await peer.ask(OP.setKeyState, ids[0], 'disabled');
  await peer.ask(OP.setKeyState, ids[1], 'disabled');
  await peer.ask(OP.setKeyState, ids[1], 'destroyed');
  const now = await scrape(t, daemon.socket);
  const states = ['active', 'disabled', 'destroyed'].map((state) => `keys{state="${state}"}`);
  t.deepEqual(
    states.map((state) => now.get(state)),
    [2, 1, 1],
  );
  t.is(now.get('key_census_complete'), 1);
  const [oldest, newest] = ['oldest', 'newest'].map((which) => now.get(`key_created_timestamp_seconds{which="${which}"}`));
  t.true(oldest! > 1.7e9 && oldest! <= newest! && newest! <= Date.now() / 1_000);
  await peer.ask(OP.createDek, null);
  t.is((await scrape(t, daemon.socket)).get('keys{state="active"}'), 2);
});

/** A store of `size` keys, of which a step tells `step`, once `onStep` was called. */
function storeOf(size: number, onStep: () => void = () => {}, step = 100) {
  const glance = async (cursor: string | undefined) => {
    onStep();
    const from = Number(cursor ?? 0);
    const to = Math.min(from + step, size);
    const key = { state: 'active', createdAt: '2026-01-01T00:00:00.000Z' } as KeyDescription;
    return { keys: Array.from({ length: to - from }, () => key), next: to === size ? null : String(to) };
  };
  return { glance };
}

test('of a store that is too large a part is counted, and said to be one', async (t) => {
  let now = 0;
  const slow = storeOf(1_000, () => (now += CENSUS_TIME_MS / 4));
  const { byState, isComplete } = await new Census(slow, () => now).look();
  t.is(byState.active, 400);
  t.false(isComplete);
  t.true((await new Census(storeOf(1_000)).look()).isComplete);
});

test('a count that took long is made again the later', async (t) => {
  let now = 0;
  let steps = 0;
  const slow = storeOf(100, () => {
    steps++;
    now += 3_000;
  });
  const census = new Census(slow, () => now);
  await census.look();
  for (const at of [CENSUS_INTERVAL_MS + 1, 299_999]) {
    now = at;
    await census.look();
  }
  t.is(steps, 1);
  now = 300_001;
  await census.look();
  t.is(steps, 2);
});

test('a store that fails in the middle, or at once, fails no scrape', async (t) => {
  let pages = 0;
  const failing = storeOf(1_000, () => {
    if (++pages > 3) throw new KmsError('STORE_UNAVAILABLE');
  });
  const part = await new Census(failing).look();
  t.deepEqual([part.byState.active, part.isComplete], [300, false]);
  const none = await new Census(failing).look();
  t.deepEqual([none.byState.active, none.isComplete, none.oldest], [0, false, undefined]);
});

test('who asks while it is being counted waits for the same count', async (t) => {
  let pages = 0;
  const census = new Census(storeOf(50, () => pages++));
  await Promise.all([census.look(), census.look()]);
  await census.look();
  t.is(pages, 1);
});

test('a store that refuses writes, damaged records, keys near their limit and the protection are told', async (t) => {
  const health = {
    status: 'degraded',
    protection: 'none',
    storeFault: 'EIO at fsync',
    damagedRecords: [{ keyId: 'k_1', reason: 'damaged' }],
    keysNearLimit: ['k_2', 'k_3'],
  };
  const kms = { ...storeOf(0), health: async () => health, sealed: true, cachedKeys: 7 };
  const watched = {
    connectionsOf: () => 3,
    heldBytes: () => 5,
    threads: () => ({ workers: 2, replaced: 4 }),
    tlsExpiries: () => ({ certificate: 7_000 }),
  };
  const all = stateSeries({ kms, version: '1.2.3' } as unknown as Service, watched);
  const read = async (name: string) => (await all.find((one) => one.name === `progressdb_kms_${name}`)!.read())[0]!.value;
  const expected = {
    store_write_latch: 1,
    damaged_records: 1,
    keys_near_limit: 2,
    sealed: 1,
    keys_cached: 7,
    held_bytes: 5,
    workers: 2,
  };
  t.is(await read('workers_replaced_total'), 4);
  for (const [name, value] of Object.entries(expected)) t.is(await read(name), value, name);
  const levels = await all.find((one) => one.name === 'progressdb_kms_protection')!.read();
  t.is(
    levels.reduce((sum, { value }) => sum + value, 0),
    1,
    'exactly one holds',
  );
});

test('nobody is asked for a token, a client’s is refused, an auditor’s is good', async (t) => {
  const access = { allowedUids: [], adminUids: [1], auditorUids: [], unauthenticatedLoopbackRoles: [] };
  const { daemon } = await running(t, {}, { access, endpoints: [{ host: '127.0.0.1', port: 0 }] });
  const ask = (token: string) => askHttp(daemon.ports[0]!, { path: '/metrics', headers: { Authorization: `Bearer ${token}` } });
  const tokens = await Promise.all(
    (['client', 'auditor'] as const).map((role) => createToken(daemon.kms.dataDir!, { roles: [role] })),
  );
  t.is(codeOf(await ask('kms_0123')), 'UNAUTHENTICATED');
  t.is(codeOf(await ask(tokens[0]!.token)), 'PERMISSION_DENIED');
  const { status, text } = await ask(tokens[1]!.token);
  t.is(status, 200);
  for (const { token } of tokens) t.false(text.includes(token.slice(4, 20)), 'not even its id');
});

test.serial('figures that cannot be had once are had at the next scrape, and keep no daemon from wiping its keys', async (t) => {
  const { daemon } = await running(t);
  const real = perfHooks.monitorEventLoopDelay;
  const failing = (fails: boolean) => {
    perfHooks.monitorEventLoopDelay = fails
      ? () => {
          throw new Error('for once');
        }
      : real;
    syncBuiltinESMExports();
  };
  t.teardown(() => failing(false));
  const scraped = async () => (await askHttp(daemon.socket, { path: '/metrics' })).status;
  failing(true);
  t.is(await scraped(), 500);
  failing(false);
  t.is(await scraped(), 200);
  failing(true);
  const kept = binding.arenaInfo().used;
  const { daemon: other } = await running(t);
  t.is((await askHttp(other.socket, { path: '/metrics' })).status, 500);
  await other.stop();
  t.is(binding.arenaInfo().used - kept, 0);
});
