import type { ExecutionContext, TestFn } from 'ava';
import { KmsError } from '../../dist/errors.js';
import type { KeyMeta, KeyStore, PackedRecords } from '../../dist/store/key-store.js';
import { packed, unpacked } from '../../dist/store/packed.js';
import { newKeyId, newRecord, next, plain } from './documents.js';

const FIRST = 'r2-0123456789abcdef';
const SECOND = 'r3-0123456789abcdef';

/** What a store must do that handles many records at once. */
export function packedContract(test: TestFn, open: (t: ExecutionContext) => Promise<KeyStore>): void {
  async function opened(t: ExecutionContext): Promise<{ store: KeyStore; records: PackedRecords }> {
    const store = await open(t);
    return { store, records: store.packed as PackedRecords };
  }

  const bytesOf = (record: KeyMeta) => new Uint8Array(packed(record));
  const created = async (records: PackedRecords, record: KeyMeta) => {
    const [isMade] = await records.createMany([{ keyId: record.keyId, bytes: bytesOf(record) }]);
    if (!isMade) throw new KmsError('CONFLICT', 'the key id is taken');
  };

  test('packed and plain records are the same ones', async (t) => {
    const { store, records } = await opened(t);
    const [one, other] = [newRecord(), newRecord({ threadId: '' })];
    await created(records, one);
    await store.createRecord(other);
    t.deepEqual(plain(await store.readRecord(one.keyId)), one);
    t.deepEqual(plain(unpacked(records.readSync(other.keyId) as Uint8Array)), other);
    t.deepEqual(await store.listKeyIds(undefined, 10), [one.keyId, other.keyId].sort());
    t.is(records.readSync(newKeyId()), undefined);
    store.replaceRecordSync(next(one, { state: 'disabled' }));
    t.is(unpacked(records.readSync(one.keyId) as Uint8Array).state, 'disabled');
  });

  test('of packed and plain creates of one id exactly one wins', async (t) => {
    const { store, records } = await opened(t);
    const all = Array.from({ length: 8 }, (_, uses) => newRecord({ keyId: 'k_same', usesReserved: uses }));
    const calls = all.map((record, i) => (i % 2 === 0 ? created(records, record) : store.createRecord(record)));
    const results = await Promise.allSettled(calls);
    const won = results.flatMap((result, i) => (result.status === 'fulfilled' ? [i] : []));
    t.is(won.length, 1);
    for (const result of results) if (result.status === 'rejected') t.is(result.reason.code, 'CONFLICT');
    t.is(unpacked(records.readSync('k_same') as Uint8Array).usesReserved, won[0] as number);
  });

  test('of many that are added at once those are whose ids are free, and each is told', async (t) => {
    const { records } = await opened(t);
    const [there, ...others] = Array.from({ length: 4 }, () => newRecord()) as [KeyMeta, ...KeyMeta[]];
    await created(records, there);
    const again = { ...there, usesReserved: 7 };
    const all = [others[0]!, again, others[1]!, others[1]!, others[2]!];
    const added = await records.createMany(all.map((record) => ({ keyId: record.keyId, bytes: bytesOf(record) })));
    t.deepEqual(added, [true, false, true, false, true]);
    for (const record of [there, ...others]) t.deepEqual(plain(unpacked(records.readSync(record.keyId)!)), record);
    t.deepEqual(await records.createMany([]), []);
  });

  test('pages of packed records neither skip nor repeat, and stay as they are', async (t) => {
    const { store, records } = await opened(t);
    const all = Array.from({ length: 30 }, () => newRecord()).sort((a, b) => (a.keyId < b.keyId ? -1 : 1));
    await Promise.all(all.map((record) => store.createRecord(record)));
    const found = [];
    for (let page = records.page(undefined, 7); page.length > 0; page = records.page(found.at(-1)?.keyId, 7)) found.push(...page);
    await store.replaceRecord(next(all[0] as KeyMeta));
    t.deepEqual(
      found.map(({ keyId }) => keyId),
      all.map(({ keyId }) => keyId),
    );
    t.deepEqual(
      found.map(({ bytes }) => plain(unpacked(bytes))),
      all,
    );
    t.deepEqual(records.page(all.at(-1)?.keyId, 7), []);
  });

  test('a record that is moved leaves its backup, and one that is another by now stays as it is', async (t) => {
    const { store, records } = await opened(t);
    const [moved, changed, gone] = [newRecord(), newRecord(), newRecord()];
    for (const record of [moved, changed]) await store.createRecord(record);
    const move = (record: KeyMeta) => ({
      keyId: record.keyId,
      before: bytesOf(record),
      after: bytesOf(next(record, { kekVersion: 2 })),
    });
    const moves = [moved, changed, gone].map(move);
    const second = next(changed, { usesReserved: 99 });
    await store.replaceRecord(second);
    t.deepEqual(await records.moveMany(FIRST, moves), [true, false, false]);
    t.is((await store.readRecord(moved.keyId))?.kekVersion, 2);
    t.deepEqual(plain(await store.backups.read(FIRST, moved.keyId)), moved);
    t.deepEqual(plain(unpacked(records.backupSync(FIRST, moved.keyId) as Uint8Array)), moved);
    t.deepEqual(plain(await store.readRecord(changed.keyId)), second);
    t.is(records.backupSync(FIRST, changed.keyId), undefined);
    t.is(await store.readRecord(gone.keyId), undefined);
    t.deepEqual(await store.backups.listKeyIds(FIRST, undefined, 10), [moved.keyId]);
    t.deepEqual(await records.moveMany(FIRST, [move(moved)]), [false], 'it has been moved');
    t.deepEqual(await records.moveMany(FIRST, []), []);
  });

  test('the backup that a plain call has kept stays when the record is moved', async (t) => {
    const { store, records } = await opened(t);
    const record = newRecord();
    await store.createRecord(record);
    await store.backups.keep(FIRST, record.keyId);
    const second = next(record);
    await store.replaceRecord(second);
    const third = { keyId: record.keyId, before: bytesOf(second), after: bytesOf(next(second)) };
    t.deepEqual(await records.moveMany(FIRST, [third]), [true]);
    t.deepEqual(plain(await store.backups.read(FIRST, record.keyId)), record);
    const fourth = { keyId: record.keyId, before: third.after, after: bytesOf(next(next(second))) };
    t.deepEqual(await records.moveMany(SECOND, [fourth]), [true]);
    t.is((await store.backups.read(SECOND, record.keyId))?.version, 3);
  });

  test('of moves, replaces and blocking replaces of one version at once exactly one wins', async (t) => {
    const { store, records } = await opened(t);
    const record = newRecord();
    await store.createRecord(record);
    const asked = [
      records.moveMany(FIRST, [
        { keyId: record.keyId, before: bytesOf(record), after: bytesOf(next(record, { usesReserved: 1 })) },
      ]),
      store.replaceRecord(next(record, { usesReserved: 2 })).then(() => [true]),
    ];
    t.notThrows(() => store.replaceRecordSync(next(record, { usesReserved: 3 })), 'it is the first to be done');
    const results = await Promise.allSettled(asked);
    t.deepEqual(
      results.map((result) => (result.status === 'fulfilled' ? result.value[0] : result.reason.code)),
      [false, 'CONFLICT'],
    );
    t.is((await store.readRecord(record.keyId))?.usesReserved, 3);
  });

  test('the packed calls of a closed store answer with an error of the table', async (t) => {
    const { store, records } = await opened(t);
    const record = newRecord();
    await created(records, record);
    await store.close();
    const calls: Array<() => unknown> = [
      () => records.readSync(record.keyId),
      () => records.page(undefined, 1),
      () => created(records, newRecord()),
      () => records.moveMany(FIRST, []),
      () => records.backupSync(FIRST, record.keyId),
    ];
    for (const call of calls) {
      const error = await t.throwsAsync(async () => call(), { instanceOf: KmsError }, String(call));
      t.is(error?.code, 'STORE_UNAVAILABLE');
    }
  });
}
