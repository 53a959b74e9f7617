import test from 'ava';
import { MAX_STORED_VALUE_BYTES } from '../../dist/limits.js';
import { backupBytes, readBackup } from '../../dist/threads/jobs/backup.js';
import { digestOf } from '../../dist/threads/jobs/mover.js';
import type { ThreadStore } from '../../dist/threads/thread-store.js';
import { openThreads } from '../../dist/threads/threads.js';
import { allMessages, entriesOf, ground, put, rotated, watched } from './threads-ground.js';

const HEAD = { jobId: `job_${'0'.repeat(32)}`, threadId: 't', wrote: digestOf(Buffer.from('{}')) };

async function backupsIn(store: ThreadStore): Promise<Array<[string, string]>> {
  return [...(await entriesOf(store))].filter(([key]) => key.startsWith('backup:'));
}

test('a backup is JSON that holds what was kept byte for byte', (t) => {
  // Digits, spaces, names that stand twice, and what looks like the end of the head.
  const text = '{ "n":1.50000000000000000001, "a":1,"a":2,"x":",\\"entry\\":","entry":{"jobId":3},"é":"\\u00e9" }';
  const bytes = backupBytes({ ...HEAD, value: Buffer.from(text) });
  const { value, ...head } = readBackup(bytes) as NonNullable<ReturnType<typeof readBackup>>;
  t.is(Buffer.from(value).toString(), text);
  t.deepEqual(head, HEAD);
  t.deepEqual(JSON.parse(Buffer.from(bytes).toString()), { ...HEAD, entry: JSON.parse(text) });
});

test('one of before, in base64, is read and put back', async (t) => {
  const { store, threads } = await ground(t);
  await threads.createThread({ threadId: 't' });
  const { messageId } = await threads.append('t', { body: 'one' });
  await threads.edit('t', messageId, 'two');
  const before = await entriesOf(store);
  const { jobId } = await rotated(threads, 't');
  const found = await backupsIn(store);
  t.is(found.length, 2);
  for (const [key, text] of found) {
    const { value, ...head } = readBackup(Buffer.from(text)) as NonNullable<ReturnType<typeof readBackup>>;
    await put(store, { [key]: JSON.stringify({ ...head, value: Buffer.from(value).toString('base64') }) });
  }
  t.deepEqual(await threads.restoreBackup(jobId), { restored: 2, changed: 0 });
  const after = await entriesOf(store);
  for (const [key, text] of before) if (/^(thread:t:msg|version):/.test(key)) t.is(after.get(key), text);
});

test('what is no backup of ours holds nothing up', async (t) => {
  const { store, threads } = await ground(t);
  await threads.createThread({ threadId: 't' });
  await threads.append('t', { body: 'one' });
  const others = {
    'backup:migrate:thread:a:msg:00000000000000000001-000001': '{"id":"a","thread":"a","entry":1,"jobId":3}',
    'backup:migrate:thread:b:msg:00000000000000000001-000001': 'no JSON',
    'backup:migrate:thread:c:msg:00000000000000000001-000001': '{"jobId":',
  };
  await put(store, others);
  const { jobId } = await rotated(threads, 't');
  t.deepEqual(await threads.restoreBackup(jobId), { restored: 1, changed: 0 });
  t.is((await rotated(threads, 't', { keepBackupsMs: 0 })).state, 'done');
  t.deepEqual(Object.fromEntries(await backupsIn(store)), others);
});

test('a restore has few of the messages in memory at once that have grown since', async (t) => {
  const { store, threads, kms } = await ground(t);
  await threads.createThread({ threadId: 't' });
  for (let i = 0; i < 100; i += 1) await threads.append('t', { body: i });
  const { jobId } = await rotated(threads, 't');
  let most = 0;
  const counting = watched(store, {
    before: (method, [keys]) => {
      if (method === 'get') most = Math.max(most, (keys as string[]).filter((key) => key.includes(':msg:')).length);
    },
  });
  const restoring = await openThreads({ kms, store: counting });
  t.deepEqual(await restoring.restoreBackup(jobId), { restored: 100, changed: 0 });
  t.true(most > 0 && most * MAX_STORED_VALUE_BYTES <= 100 * 1024 * 1024, `${most} at once`);
  await restoring.close();
});

test('a restore that stalls removes no backup that a later job has put in its place meanwhile', async (t) => {
  const { store, threads, kms } = await ground(t);
  await threads.createThread({ threadId: 't' });
  for (let i = 0; i < 3; i += 1) await threads.append('t', { body: i });
  const first = await rotated(threads, 't');
  const { messageId } = (await threads.list('t')).messages[1] as { messageId: string };
  await threads.edit('t', messageId, 'edited');
  let later: string | undefined;
  const stalling = watched(store, {
    before: async (method, args) => {
      const isRemoval = method === 'commit' && JSON.stringify(args).includes('"remove":["backup:');
      if (!isRemoval || later !== undefined) return;
      later = '';
      later = (await rotated(threads, 't')).jobId;
    },
  });
  const restoring = await openThreads({ kms, store: stalling });
  await restoring.restoreBackup(first.jobId);
  t.is((await backupsIn(store)).length, 4);
  t.deepEqual(await threads.restoreBackup(later as unknown as string), { restored: 4, changed: 0 });
  t.deepEqual(
    (await allMessages(threads, 't')).map(({ body, error }) => error ?? body),
    [0, 'edited', 2],
  );
  await restoring.close();
});
