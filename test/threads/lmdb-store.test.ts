import { chmodSync, readdirSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KmsError } from '../../dist/errors.js';
import { MAX_STORED_VALUE_BYTES } from '../../dist/limits.js';
import { openLmdbThreadStore } from '../../dist/threads/lmdb-store.js';
import { Child } from '../crash/child.js';
import { FILES, newStorePath, openedLmdb } from './lmdb-ground.js';
import { bytes, putting, removing, threadStoreContract } from './store-contract.js';

threadStoreContract(test, (t) => openedLmdb(t, newStorePath(t)));

async function refusal(t: ExecutionContext, work: () => Promise<unknown>): Promise<KmsError> {
  return (await t.throwsAsync(work, { instanceOf: KmsError })) as KmsError;
}

test('opened again, a store has what it had, compacted or not', async (t) => {
  const path = newStorePath(t);
  for (let round = 0; round < 4; round += 1) {
    const store = await openLmdbThreadStore(path);
    const found = await store.range({ from: '', to: '\x7f', limit: 100 });
    t.deepEqual(
      found.map(({ key }) => key),
      Array.from({ length: round }, (_, i) => `k${i}`),
    );
    await store.commit([putting([`k${round}`, 'x'.repeat(10_000)], ['gone', 'y']), removing('gone')]);
    if (round % 2 === 1) await store.compact();
    await store.close();
  }
});

test('a store grows as long as there is room', async (t) => {
  const path = newStorePath(t);
  const store = await openedLmdb(t, path);
  const value = 'v'.repeat(100_000);
  for (let i = 0; i < 20; i += 1)
    await store.commit(Array.from({ length: 10 }, (_, j) => putting([`k${i * 10 + j + 1_000}`, value])));
  t.true(statSync(join(path, 'threads.mdb')).size > 20_000_000);
  const found = await store.range({ from: 'k', to: 'l', limit: 1_000 });
  t.is(found.length, 200);
  t.true(found.every((entry) => Buffer.compare(entry.value, bytes(value)) === 0));
});

test('its files are for their owner alone', async (t) => {
  const path = newStorePath(t);
  const store = await openedLmdb(t, path);
  await store.commit([putting(['a', '1'])]);
  for (let round = 0; round < 2; round += 1) {
    t.is(statSync(path).mode & 0o777, 0o700);
    t.deepEqual(readdirSync(path).sort(), FILES);
    for (const name of FILES) t.is(statSync(join(path, name)).mode & 0o777, 0o600, name);
    await store.compact();
  }
});

test('one that others could reach is refused, and not mended', async (t) => {
  const path = newStorePath(t);
  await (await openLmdbThreadStore(path)).close();
  for (const [name, wide, mode] of [
    ['.', 0o750, 0o700],
    ['threads.mdb', 0o640, 0o600],
    ['threads.mdb-lock', 0o606, 0o600],
  ] as const) {
    chmodSync(join(path, name), wide);
    const error = await refusal(t, () => openLmdbThreadStore(path));
    t.is(error.code, 'PERMISSION_DENIED', name);
    t.is(statSync(join(path, name)).mode & 0o777, wide);
    chmodSync(join(path, name), mode);
  }
  await (await openLmdbThreadStore(path)).close();
});

test('one store has one opener, in this process and in others', async (t) => {
  const path = newStorePath(t);
  const store = await openedLmdb(t, path);
  await store.commit([putting(['a', '1'])]);
  t.is((await refusal(t, () => openLmdbThreadStore(path))).code, 'CONFLICT');
  const other = new Child([resolve('dist-test/threads/store-child.js'), 'load', path, '1']);
  t.deepEqual(await other.ended, { code: 3, signal: null });
  t.deepEqual(other.lines, ['refused CONFLICT']);
  t.is(Buffer.from((await store.get(['a']))[0]!).toString(), '1', 'and is not disturbed');
  await store.close();
  await (await openLmdbThreadStore(path)).close();
});

test('what is no store is refused by name, and left as it is', async (t) => {
  const path = newStorePath(t);
  const file = join(path, 'threads.mdb');
  await (await openLmdbThreadStore(path)).close();
  writeFileSync(file, 'x'.repeat(20_000));
  t.is((await refusal(t, () => openLmdbThreadStore(path))).code, 'STORE_UNAVAILABLE');
  t.is(statSync(file).size, 20_000);
  truncateSync(file, 0);
  await (await openLmdbThreadStore(path)).close();
});

test('keys and values that it does not take are refused, and nothing of their call is made', async (t) => {
  const store = await openedLmdb(t, newStorePath(t));
  for (const key of ['', 'é', 'a\n', 'k'.repeat(1_025)]) {
    t.is((await refusal(t, () => store.commit([putting(['fine', '1']), putting([key, '1'])]))).code, 'INVALID_ARGUMENT');
    t.is((await refusal(t, () => store.commit([removing(key)]))).code, 'INVALID_ARGUMENT');
    t.is((await refusal(t, () => store.get([key]))).code, 'INVALID_ARGUMENT');
  }
  t.is((await refusal(t, () => store.range({ from: 'é', to: 'z', limit: 1 }))).code, 'INVALID_ARGUMENT');
  const large = { expect: [], put: [{ key: 'large', value: new Uint8Array(MAX_STORED_VALUE_BYTES + 1) }], remove: [] };
  t.is((await refusal(t, () => store.commit([putting(['fine', '1']), large]))).code, 'TOO_LARGE');
  t.deepEqual(await store.range({ from: '', to: '\x7f', limit: 10 }), []);
  const largest = new Uint8Array(MAX_STORED_VALUE_BYTES).fill(7);
  await store.commit([{ expect: [], put: [{ key: 'large', value: largest }], remove: [] }]);
  t.true(Buffer.compare((await store.get(['large']))[0]!, largest) === 0);
  t.true(Buffer.compare((await store.range({ from: 'large', to: 'm', limit: 1 }))[0]!.value, largest) === 0);
});
