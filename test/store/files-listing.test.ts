import test from 'ava';
import { newDataDir, openedStore } from './data-dir.js';
import { newRecord, next } from './documents.js';
import { interceptedFileSystem } from './intercepted.js';

test('a record that is replaced while its directory is read, and shows in no listing of it, is listed all the same', async (t) => {
  let hidden: string | undefined;
  const fileSystem = interceptedFileSystem(({ op }, proceed) => {
    if (op !== 'readdir') return proceed();
    return (proceed() as Promise<string[]>).then((names) => names.filter((name) => name !== hidden));
  });
  const store = await openedStore(t, newDataDir(t), fileSystem);
  const records = ['k_1', 'k_2', 'k_3'].map((keyId) => newRecord({ keyId }));
  for (const record of records.slice(0, 2)) await store.createRecord(record);
  t.deepEqual(await store.listKeyIds(undefined, 10), ['k_1', 'k_2']);
  await store.createRecord(records[2]!);
  for (const [at, keyId] of ['k_1', 'k_3'].entries()) {
    hidden = `${keyId}.json`;
    await store.replaceRecord(next(records[at * 2]!));
    t.deepEqual(await store.listKeyIds(undefined, 10), ['k_1', 'k_2', 'k_3'], `${keyId} was passed over`);
  }
  await store.backups.setAside('r2-0123456789abcdef', 'k_3');
  t.deepEqual(await store.listKeyIds(undefined, 10), ['k_1', 'k_2'], 'what is gone is listed no more');
});
