import test from 'ava';
import { KmsError } from '../../dist/errors.js';
import { openFileStore } from '../../dist/store/files.js';
import { newDataDir, openedStore } from './data-dir.js';
import { newKeyring, newRecord } from './documents.js';
import { type Call, interceptedFileSystem, systemError } from './intercepted.js';

test('a read of an absent key that outlasts the store is answered, and asks no closed descriptor', async (t) => {
  let letGo = () => {};
  const held = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  let isHolding = () => {};
  const holding = new Promise<void>((resolve) => {
    isHolding = resolve;
  });
  let armed = false;
  const fileSystem = interceptedFileSystem(({ op, of }, proceed) => {
    if (!armed || op !== 'fstat' || of !== 'kms-deks') return proceed();
    isHolding();
    return held.then(proceed);
  });
  const store = await openedStore(t, newDataDir(t), fileSystem);
  armed = true;
  const read = store.readRecord('k_absent');
  await holding;
  await store.close();
  letGo();
  t.is(await read, undefined);
});

test('reads that overlap the close of the store are answered or refused as closed', async (t) => {
  const store = await openedStore(t, newDataDir(t));
  const record = newRecord();
  await store.createRecord(record);
  await store.writeKeyring(newKeyring(1));
  const reads: Array<Promise<unknown>> = [];
  const begin = (times: number) => {
    for (let index = 0; index < times; index += 1) {
      reads.push(
        store.readRecord('k_absent'),
        store.readRecord(record.keyId),
        store.readKeyring(),
        store.listKeyIds(undefined, 9),
      );
    }
  };
  begin(50);
  await store.readRecord(record.keyId);
  const closing = store.close();
  begin(5);
  const outcomes = await Promise.allSettled(reads);
  await closing;
  for (const outcome of outcomes) {
    if (outcome.status === 'rejected') t.like(outcome.reason, { constructor: KmsError, code: 'STORE_UNAVAILABLE' });
  }
  t.true(
    outcomes.slice(-20).every(({ status }) => status === 'rejected'),
    'what comes after the close is refused',
  );
  t.true(
    outcomes.slice(0, 200).every(({ status }) => status === 'fulfilled'),
    'what came before it is answered',
  );
});

test('an open that fails at any of its steps leaves no descriptor behind', async (t) => {
  const open = new Set<number>();
  let calls: Call[] = [];
  let failing = -1;
  const fileSystem = interceptedFileSystem(async (call, proceed, args) => {
    calls.push(call);
    if (calls.length - 1 === failing) throw systemError('EMFILE', call.op);
    if (call.op === 'close') open.delete(args[0] as number);
    const result = await proceed();
    if (call.op === 'open') open.add(result as number);
    return result;
  });
  const dataDir = newDataDir(t);
  await (await openFileStore({ dataDir, fileSystem })).close();
  t.is(open.size, 0, 'closed, a store holds none');
  calls = [];
  const store = await openFileStore({ dataDir, fileSystem });
  t.is(open.size, 4, 'it would be seen: an open store holds four');
  const steps = [...calls];
  await store.close();
  t.true(steps.length > 8, JSON.stringify(steps));
  for (const [index, { op, of }] of steps.entries()) {
    if (op === 'close') continue;
    calls = [];
    failing = index;
    await t.throwsAsync(openFileStore({ dataDir, fileSystem }), { code: 'STORE_UNAVAILABLE' }, `${op} of ${of}`);
    t.deepEqual([...open], [], `${op} of ${of} (${index})`);
  }
});
