import type { ExecutionContext, TestFn } from 'ava';
import { KmsError } from '../../dist/errors.js';
import type { KeyStore } from '../../dist/store/key-store.js';
import { newKeyring, newRecord, next, plain } from './documents.js';

const FIRST = 'r2-0123456789abcdef';
const SECOND = 'r10-0123456789abcdef';

async function code(t: ExecutionContext, work: Promise<unknown>): Promise<string | undefined> {
  return (await t.throwsAsync(work, { instanceOf: KmsError }))?.code;
}

/** What the backups of every key store must do. */
export function backupsContract(test: TestFn, open: (t: ExecutionContext) => Promise<KeyStore>): void {
  test('a new store keeps nothing of any rotation', async (t) => {
    const { backups } = await open(t);
    t.deepEqual(await backups.list(), []);
    t.is(await backups.read(FIRST, 'k_1'), undefined);
    t.deepEqual(await backups.listKeyIds(FIRST, undefined, 10), []);
    await t.notThrowsAsync(backups.forget('k_1'));
    await t.notThrowsAsync(backups.dropKeyrings());
    await t.notThrowsAsync(backups.drop(FIRST));
  });

  test('a backup stays as the record was, whatever is written over the record', async (t) => {
    const store = await open(t);
    const record = newRecord();
    await store.createRecord(record);
    await store.backups.keep(FIRST, record.keyId);
    const second = next(record, { usesReserved: 4_096 });
    await store.replaceRecord(second);
    await store.replaceRecord(next(second, { state: 'disabled' }));
    t.deepEqual(plain(await store.backups.read(FIRST, record.keyId)), record);
    t.is((await store.readRecord(record.keyId))?.state, 'disabled');
  });

  test('the backup that is kept already stays, for the same rotation', async (t) => {
    const store = await open(t);
    const record = newRecord();
    await store.createRecord(record);
    await Promise.all([store.backups.keep(FIRST, record.keyId), store.backups.keep(FIRST, record.keyId)]);
    const second = next(record);
    await store.replaceRecord(second);
    await store.backups.keep(FIRST, record.keyId);
    await store.backups.keep(SECOND, record.keyId);
    t.deepEqual(plain(await store.backups.read(FIRST, record.keyId)), record);
    t.deepEqual(plain(await store.backups.read(SECOND, record.keyId)), second);
  });

  test('a record that is not there cannot be kept or set aside', async (t) => {
    const { backups } = await open(t);
    t.is(await code(t, backups.keep(FIRST, 'k_none')), 'KEY_NOT_FOUND');
    t.is(await code(t, backups.setAside(FIRST, 'k_none')), 'KEY_NOT_FOUND');
    t.deepEqual(await backups.listKeyIds(FIRST, undefined, 10), []);
  });

  test('kept keys are listed as keys are, in pages, and the keyring is none of them', async (t) => {
    const store = await open(t);
    await store.writeKeyring(newKeyring(1));
    await store.backups.keepKeyring(FIRST);
    const ids = ['k_b', 'k_10', 'k_9', 'k_a', 'k_aa'];
    for (const keyId of ids) {
      await store.createRecord(newRecord({ keyId }));
      await store.backups.keep(FIRST, keyId);
    }
    const sorted = [...ids].sort();
    t.deepEqual(await store.backups.listKeyIds(FIRST, undefined, 2), sorted.slice(0, 2));
    t.deepEqual(await store.backups.listKeyIds(FIRST, sorted[1], 10), sorted.slice(2));
    t.deepEqual(await store.backups.listKeyIds(SECOND, undefined, 10), []);
  });

  test('rotations are listed the oldest first, by the version of their KEK', async (t) => {
    const store = await open(t);
    const record = newRecord();
    await store.createRecord(record);
    for (const rotationId of [SECOND, 'r9-ffffffffffffffff', FIRST]) await store.backups.keep(rotationId, record.keyId);
    t.deepEqual(await store.backups.list(), [FIRST, 'r9-ffffffffffffffff', SECOND]);
  });

  test('a dropped rotation is gone with its keyring, and no other is', async (t) => {
    const store = await open(t);
    await store.writeKeyring(newKeyring(1));
    const records = Array.from({ length: 40 }, () => newRecord());
    await Promise.all(records.map((record) => store.createRecord(record)));
    for (const rotationId of [FIRST, SECOND]) {
      await Promise.all(records.map(({ keyId }) => store.backups.keep(rotationId, keyId)));
      await store.backups.keepKeyring(rotationId);
    }
    await store.backups.drop(FIRST);
    t.deepEqual(await store.backups.list(), [SECOND]);
    t.is(await store.backups.read(FIRST, records[0]!.keyId), undefined);
    t.is((await store.backups.listKeyIds(SECOND, undefined, 100)).length, 40);
    await store.backups.keep(FIRST, records[0]!.keyId);
    t.deepEqual(await store.backups.listKeyIds(FIRST, undefined, 100), [records[0]!.keyId], 'it can be begun anew');
  });

  test('a forgotten key is kept by no rotation, and stays in the store', async (t) => {
    const store = await open(t);
    const [record, other] = [newRecord(), newRecord()];
    for (const each of [record, other]) {
      await store.createRecord(each);
      for (const rotationId of [FIRST, SECOND]) await store.backups.keep(rotationId, each.keyId);
    }
    await store.backups.forget(record.keyId);
    for (const rotationId of [FIRST, SECOND]) {
      t.is(await store.backups.read(rotationId, record.keyId), undefined);
      t.deepEqual(await store.backups.listKeyIds(rotationId, undefined, 10), [other.keyId]);
    }
    t.deepEqual(plain(await store.readRecord(record.keyId)), record);
  });

  test('a record that is set aside is out of the store and listed there no more', async (t) => {
    const store = await open(t);
    const [record, other] = [newRecord({ keyId: 'k_1' }), newRecord({ keyId: 'k_2' })];
    for (const each of [record, other]) await store.createRecord(each);
    t.deepEqual(await store.listKeyIds(undefined, 10), ['k_1', 'k_2']);
    await store.backups.setAside(FIRST, 'k_1');
    t.is(await store.readRecord('k_1'), undefined);
    t.deepEqual(await store.listKeyIds(undefined, 10), ['k_2']);
    t.deepEqual(plain(await store.backups.read(FIRST, 'k_1')), record);
  });

  test('setting a record aside leaves the backup that is kept of it as it is', async (t) => {
    const store = await open(t);
    const record = newRecord();
    await store.createRecord(record);
    await store.backups.keep(FIRST, record.keyId);
    await store.replaceRecord(next(record));
    await store.backups.setAside(FIRST, record.keyId);
    t.deepEqual(plain(await store.backups.read(FIRST, record.keyId)), record);
    t.deepEqual(await store.backups.listKeyIds(FIRST, undefined, 10), [record.keyId]);
    await store.backups.forget(record.keyId);
    t.deepEqual(await store.backups.list(), [], 'both of them are forgotten');
  });

  test('of kept keyrings none is left once they are dropped, and the records beside them are', async (t) => {
    const store = await open(t);
    t.is(await code(t, store.backups.keepKeyring(FIRST)), 'STORE_UNAVAILABLE');
    await store.writeKeyring(newKeyring(1));
    const record = newRecord();
    await store.createRecord(record);
    await store.backups.keep(SECOND, record.keyId);
    for (const rotationId of [FIRST, SECOND]) await store.backups.keepKeyring(rotationId);
    t.deepEqual(await store.backups.list(), [FIRST, SECOND]);
    await store.backups.dropKeyrings();
    t.deepEqual(await store.backups.list(), [SECOND]);
    t.deepEqual(plain(await store.backups.read(SECOND, record.keyId)), record);
    t.not(await store.readKeyring(), undefined, 'not the one of the store');
  });

  test('the backups of a closed store answer every call with an error of the table', async (t) => {
    const store = await open(t);
    const record = newRecord();
    await store.createRecord(record);
    await store.close();
    const { backups } = store;
    const calls: Array<() => Promise<unknown>> = [
      () => backups.keep(FIRST, record.keyId),
      () => backups.keepKeyring(FIRST),
      () => backups.read(FIRST, record.keyId),
      () => backups.listKeyIds(FIRST, undefined, 1),
      () => backups.list(),
      () => backups.drop(FIRST),
      () => backups.dropKeyrings(),
      () => backups.forget(record.keyId),
      () => backups.setAside(FIRST, record.keyId),
    ];
    for (const call of calls) t.is(await code(t, call()), 'STORE_UNAVAILABLE', String(call));
  });
}
