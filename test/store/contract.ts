import type { ExecutionContext, TestFn } from 'ava';
import { KmsError } from '../../dist/errors.js';
import type { KeyMeta, KeyStore } from '../../dist/store/key-store.js';
import { newKeyId, newKeyring, newRecord, next, plain } from './documents.js';

export type OpenStore = (t: ExecutionContext) => Promise<KeyStore>;

/** What every key store must do, whatever it writes to. `isBlocking`: whether it has synchronous calls, and does not refuse them. */
export function keyStoreContract(test: TestFn, open: OpenStore, isBlocking = true): void {
  const readSync = (store: KeyStore, keyId: string) =>
    isBlocking ? Promise.resolve(store.readRecordSync(keyId)) : store.readRecord(keyId);

  async function conflict(t: ExecutionContext, write: () => Promise<void> | void): Promise<void> {
    const error = await t.throwsAsync(async () => write(), { instanceOf: KmsError });
    t.is(error?.code, 'CONFLICT');
  }

  test('a new store has no keyring, no records and no fault', async (t) => {
    const store = await open(t);
    t.is(await store.readKeyring(), undefined);
    t.deepEqual(await store.listKeyIds(undefined, 10), []);
    t.is(await store.readRecord(newKeyId()), undefined);
    t.is(await readSync(store, newKeyId()), undefined);
    t.is(store.fault(), null);
  });

  test('a created record reads back the same, both ways', async (t) => {
    const store = await open(t);
    const record = newRecord();
    await store.createRecord(record);
    t.deepEqual(plain(await store.readRecord(record.keyId)), record);
    t.deepEqual(plain(await readSync(store, record.keyId)), record);
  });

  test('a record without a thread reads back with an empty thread id', async (t) => {
    const store = await open(t);
    const record = newRecord({ threadId: '' });
    await store.createRecord(record);
    t.is((await store.readRecord(record.keyId))?.threadId, '');
  });

  test('what a caller does to its record afterwards does not change the stored one', async (t) => {
    const store = await open(t);
    const record = newRecord();
    const given = { ...record, wrapped: new Uint8Array(record.wrapped) };
    const created = store.createRecord(given);
    given.wrapped.fill(0);
    given.usesReserved = 7;
    await created;
    t.deepEqual(plain(await store.readRecord(record.keyId)), record);
    (await readSync(store, record.keyId))?.wrapped.fill(0);
    t.deepEqual(plain(await store.readRecord(record.keyId)), record);
  });

  test('of several creates of one id exactly one wins', async (t) => {
    const store = await open(t);
    const records = Array.from({ length: 8 }, (_, uses) => newRecord({ keyId: 'k_same', usesReserved: uses }));
    const results = await Promise.allSettled(records.map((record) => store.createRecord(record)));
    const won = results.flatMap((result, index) => (result.status === 'fulfilled' ? [index] : []));
    t.is(won.length, 1);
    for (const result of results) if (result.status === 'rejected') t.is(result.reason.code, 'CONFLICT');
    t.is((await store.readRecord('k_same'))?.usesReserved, won[0]);
    t.deepEqual(await store.listKeyIds(undefined, 10), ['k_same']);
  });

  const ways: Array<[string, (store: KeyStore, record: KeyMeta) => Promise<void> | void]> = [
    ['an asynchronous replace', (store, record) => store.replaceRecord(record)],
    ['a blocking replace', (store, record) => store.replaceRecordSync(record)],
  ];
  for (const [way, replace] of isBlocking ? ways : ways.slice(0, 1)) {
    test(`${way} of the version before takes its place`, async (t) => {
      const store = await open(t);
      const record = newRecord();
      await store.createRecord(record);
      const second = next(record, { usesReserved: 4096, state: 'disabled' });
      await replace(store, second);
      t.deepEqual(plain(await store.readRecord(record.keyId)), second);
      t.deepEqual(plain(await readSync(store, record.keyId)), second);
    });

    test(`${way} of any other version is a conflict and changes nothing`, async (t) => {
      const store = await open(t);
      const record = newRecord();
      await store.createRecord(record);
      const second = next(record);
      await replace(store, second);
      for (const version of [1, 2, 4]) await conflict(t, () => replace(store, { ...second, version, usesReserved: 99 }));
      t.deepEqual(plain(await store.readRecord(record.keyId)), second);
    });

    test(`${way} of a record that is not there is a conflict and makes none`, async (t) => {
      const store = await open(t);
      const record = newRecord({ version: 2 });
      await conflict(t, () => replace(store, record));
      t.is(await store.readRecord(record.keyId), undefined);
      t.deepEqual(await store.listKeyIds(undefined, 10), []);
    });

    test(`a destroyed record is never written again by ${way}`, async (t) => {
      const store = await open(t);
      const record = newRecord();
      await store.createRecord(record);
      const destroyed = next(record, { state: 'destroyed', wrapped: new Uint8Array(0) });
      await replace(store, destroyed);
      await conflict(t, () => replace(store, next(destroyed, { state: 'active', wrapped: record.wrapped })));
      await conflict(t, () => store.createRecord(record));
      t.deepEqual(plain(await store.readRecord(record.keyId)), destroyed);
    });
  }

  if (!isBlocking) {
    test('a synchronous call is refused by name', async (t) => {
      const store = await open(t);
      for (const call of [() => store.readRecordSync(newKeyId()), () => store.replaceRecordSync(newRecord())]) {
        t.is(t.throws(call, { instanceOf: KmsError })?.code, 'UNSUPPORTED');
      }
    });
  }

  test('of several replaces of one version exactly one wins', async (t) => {
    const store = await open(t);
    const record = newRecord();
    await store.createRecord(record);
    const writes = Array.from({ length: 8 }, (_, uses) => store.replaceRecord(next(record, { usesReserved: uses })));
    const results = await Promise.allSettled(writes);
    const won = results.flatMap((result, index) => (result.status === 'fulfilled' ? [index] : []));
    t.is(won.length, 1);
    t.is((await store.readRecord(record.keyId))?.usesReserved, won[0]);
  });

  test('keys are listed ascending by code unit, in pages that neither skip nor repeat', async (t) => {
    const store = await open(t);
    const ids = ['k_b', 'k_a', 'k_10', 'k_9', 'k_aa', 'k_z', 'k_0', ...Array.from({ length: 40 }, newKeyId)];
    await Promise.all(ids.map((keyId) => store.createRecord(newRecord({ keyId }))));
    const listed: string[] = [];
    for (let page = await store.listKeyIds(undefined, 5); page.length > 0; page = await store.listKeyIds(listed.at(-1), 5)) {
      t.true(page.length <= 5);
      listed.push(...page);
    }
    t.deepEqual(listed, [...ids].sort());
    t.deepEqual(await store.listKeyIds('k_a', 1), [[...ids].sort().find((id) => id > 'k_a') as string]);
    t.deepEqual(await store.listKeyIds('k_zz', 5), []);
  });

  test('keys created during a listing appear in its later pages, once', async (t) => {
    const store = await open(t);
    for (const keyId of ['k_1', 'k_3', 'k_5']) await store.createRecord(newRecord({ keyId }));
    t.deepEqual(await store.listKeyIds(undefined, 1), ['k_1']);
    await Promise.all(['k_4', 'k_2'].map((keyId) => store.createRecord(newRecord({ keyId }))));
    t.deepEqual(await store.listKeyIds('k_1', 10), ['k_2', 'k_3', 'k_4', 'k_5']);
    t.deepEqual(await store.listKeyIds(undefined, 10), ['k_1', 'k_2', 'k_3', 'k_4', 'k_5']);
  });

  test('the keyring reads back the same and is replaced whole', async (t) => {
    const store = await open(t);
    const first = newKeyring(1);
    await store.writeKeyring(first);
    t.deepEqual(plain(await store.readKeyring()), first);
    const second = { ...newKeyring(2), defaultKeyId: newKeyId() };
    await store.writeKeyring(second);
    t.deepEqual(plain(await store.readKeyring()), second);
  });

  test('of keyrings written at once the one given last stays', async (t) => {
    const store = await open(t);
    const keyrings = Array.from({ length: 6 }, (_, index) => newKeyring(index + 1));
    await Promise.all(keyrings.map((keyring) => store.writeKeyring(keyring)));
    t.deepEqual(plain(await store.readKeyring()), keyrings.at(-1));
  });

  test('a closed store answers every call with an error of the table', async (t) => {
    const store = await open(t);
    const record = newRecord();
    const accepted = store.createRecord(record);
    const closed = store.close();
    await t.notThrowsAsync(accepted, 'a write accepted before the close finishes');
    await closed;
    await t.notThrowsAsync(store.close(), 'a second close is none');
    const calls: Array<() => unknown> = [
      () => store.readKeyring(),
      () => store.writeKeyring(newKeyring(1)),
      () => store.readRecord(record.keyId),
      () => store.createRecord(newRecord()),
      () => store.replaceRecord(next(record)),
      () => store.listKeyIds(undefined, 1),
    ];
    if (isBlocking)
      calls.push(
        () => store.readRecordSync(record.keyId),
        () => store.replaceRecordSync(next(record)),
      );
    for (const call of calls) {
      const error = await t.throwsAsync(async () => call(), { instanceOf: KmsError }, String(call));
      t.is(error?.code, 'STORE_UNAVAILABLE');
    }
  });
}
