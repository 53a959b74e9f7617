import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import test from 'ava';
import { KmsError } from '../../dist/errors.js';
import { openKms } from '../../dist/open.js';
import type { Provider } from '../../dist/provider.js';
import { openMemoryThreadStore } from '../../dist/threads/memory-store.js';
import type { Message } from '../../dist/threads/thread.js';
import { openThreads } from '../../dist/threads/threads.js';
import { running } from '../daemon/running.js';
import { OriginalServer } from './original-server.js';
import {
  allMessages,
  allVersions,
  embedded,
  encrypted,
  entriesOf,
  ground,
  keysInUse,
  Mortality,
  opened,
  put,
  rotated,
  stateOf,
  textOf,
  unreachable,
  watched,
} from './threads-ground.js';

// The numbers are those of the list of what is wrong with the original.

for (const fields of [['body'], ['body.card', 'body.items.*.note'], ['body.none']]) {
  test(`12: nothing is stored while the key service is away, or the key disabled, with ${fields}`, async (t) => {
    const { kms, store, threads } = await ground(t, { fields });
    const body = { card: 'secret-card', items: [{ note: 'secret-note' }, 1] };
    const { keyId } = await threads.createThread({ threadId: 't' });
    const { messageId } = await threads.append('t', { body });
    const away = await opened(t, { kms: unreachable(kms), store, fields });
    const before = await entriesOf(store);
    const hasSecrets = fields[0] !== 'body.none';
    if (hasSecrets) {
      await t.throwsAsync(away.append('t', { body }), { code: 'STORE_UNAVAILABLE' });
      await t.throwsAsync(away.edit('t', messageId, body), { code: 'STORE_UNAVAILABLE' });
      await t.throwsAsync(away.list('t'), { code: 'STORE_UNAVAILABLE' });
      await kms.disableKey(keyId as string);
      await t.throwsAsync(threads.append('t', { body }), { code: 'KEY_DISABLED' });
      await t.throwsAsync(threads.edit('t', messageId, body), { code: 'KEY_DISABLED' });
    }
    t.deepEqual(await entriesOf(store), before);
    await t.throwsAsync(away.createThread({ threadId: 'other' }), { code: 'STORE_UNAVAILABLE' });
    t.is(await threads.thread('other'), undefined);
  });
}

test('12: without a key service, a thread with a key takes nothing', async (t) => {
  const { store, threads } = await ground(t);
  await threads.createThread({ threadId: 't' });
  const before = await entriesOf(store);
  const none = await opened(t, { store });
  await t.throwsAsync(none.append('t', { body: 'secret' }), { code: 'UNSUPPORTED' });
  t.deepEqual(await entriesOf(store), before);
});

test('13: a rotation that dies leaves a mixture that is read and written, and the next start finishes it', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  const first = await openThreads({ kms, store });
  const { keyId: oldKey } = await first.createThread({ threadId: 't' });
  const expected: string[] = [];
  for (let i = 0; i < 20; i += 1) {
    expected.push(`body-${i}`);
    await first.append('t', { body: `body-${i}` });
  }
  const { messageId } = (await first.list('t')).messages[3] as { messageId: string };
  expected[3] = 'edited';
  await first.edit('t', messageId, 'edited');
  await first.close();
  // One message in each batch, so that it dies among them.
  let moved = 0;
  const dying = watched(store, {
    before: (method, args) => {
      if (method !== 'commit' || !JSON.stringify(args).includes('backup:migrate:')) return;
      moved += 1;
      if (moved > 5) throw new KmsError('STORE_UNAVAILABLE', 'struck by the test');
    },
  });
  const second = await openThreads({ kms, store: dying });
  const { jobId } = await second.rotateThreadDek('t', { messagesPerSecond: 1, concurrency: 1 });
  while (moved < 2) await new Promise((resolve) => setTimeout(resolve, 20));
  await second.close();
  t.is((await keysInUse(store)).size, 2, 'it died in the middle');

  const third = await opened(t, { kms: watched(kms, {}), store: watched(store, {}, { isShared: true }) });
  t.deepEqual(
    (await allMessages(third, 't')).map(({ body, error }) => error ?? body),
    expected,
  );
  expected.push('later');
  await third.append('t', { body: 'later' });
  expected[0] = 'edited, too';
  await third.edit('t', (await third.list('t')).messages[0]?.messageId as string, 'edited, too');

  const fourth = await opened(t, { kms, store });
  await fourth.pauseJob(jobId).catch(() => {});
  // Without the pace, which is only for the test to meet it under way.
  await fourth.cancelJob(jobId);
  t.is((await rotated(fourth, 't')).state, 'done');
  t.deepEqual(
    (await allMessages(fourth, 't')).map(({ body }) => body),
    expected,
  );
  const { keyId } = (await fourth.thread('t')) as { keyId: string };
  t.deepEqual([...(await keysInUse(store))], [keyId]);
  t.deepEqual(
    (await allVersions(fourth, 't', messageId)).map(({ body }) => body),
    ['body-3'],
  );
  t.is(await stateOf(kms, oldKey), 'disabled');
});

test('13: writers keep writing during a rotation, and all ends up under the new key', async (t) => {
  const { kms, store, threads } = await ground(t);
  const { keyId: oldKey } = await threads.createThread({ threadId: 't' });
  const bodies = new Map<string, string>();
  for (let i = 0; i < 600; i += 1) bodies.set((await threads.append('t', { body: `body-${i}` })).messageId, `body-${i}`);
  const edited = [...bodies.keys()];
  const { jobId } = await threads.rotateThreadDek('t', { concurrency: 1 });
  let isOver = false;
  const end = threads.waitForJob(jobId).finally(() => {
    isOver = true;
  });
  for (let i = 0; !isOver || i < 50; i += 1) {
    const { messageId } = await threads.append('t', { body: `later-${i}` });
    bodies.set(messageId, `later-${i}`);
    const target = edited[(i * 37) % edited.length] as string;
    await threads.edit('t', target, `edited-${i}`);
    bodies.set(target, `edited-${i}`);
    for (const { error } of (await threads.list('t', { limit: 50 })).messages) t.is(error, null);
    // Nothing here waits for a disk or a socket: without a turn of the event loop the job would not get one.
    await turn();
  }
  t.is((await end).state, 'done');
  const { keyId } = (await threads.thread('t')) as { keyId: string };
  t.deepEqual([...(await keysInUse(store))], [keyId]);
  for (const { messageId, body } of await allMessages(threads, 't')) t.is(body, bodies.get(messageId) as string);
  t.is((await allMessages(threads, 't')).length, bodies.size);
  t.is(await stateOf(kms, oldKey), 'disabled');
});

test('13: a message that was encrypted before a rotation and comes after it is encrypted again', async (t) => {
  const { kms, store, threads } = await ground(t);
  await threads.createThread({ threadId: 't' });
  const { messageId } = await threads.append('t', { body: 'first' });
  for (const write of ['append', 'edit'] as const) {
    let isRotated = false;
    const slow = watched(kms as Provider, {
      after: async (method) => {
        if (method !== 'encryptWithDek' || isRotated) return;
        isRotated = true;
        await rotated(threads, 't', { keepBackupsMs: 0 });
      },
    });
    const writer = await opened(t, { kms: slow, store });
    if (write === 'append') await writer.append('t', { body: 'late' });
    else await writer.edit('t', messageId, 'edited late');
    t.true(isRotated);
    const { keyId } = (await threads.thread('t')) as { keyId: string };
    t.deepEqual([...(await keysInUse(store))], [keyId]);
  }
  t.deepEqual(
    (await allMessages(threads, 't')).map(({ body }) => body),
    ['edited late', 'late'],
  );
});

test('14: encrypt-existing done again changes nothing, and encrypts nothing twice', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  await put(store, { 'thread:t:meta': '{"id":"t","created_ts":1712345678901234567}' });
  const server = new OriginalServer(kms, store, 't');
  for (let i = 0; i < 5; i += 1) await server.append(`{"text":"plaintext-${i}"}`);
  await (await opened(t, { store })).append('t', { body: 'plaintext-5' });
  t.true((await textOf(store)).includes('plaintext-5'), 'the thread has no key yet');
  const threads = await opened(t, { kms, store });
  const first = await encrypted(threads, 't');
  t.is(first.state, 'done');
  t.is(first.moved, 11);
  t.false((await textOf(store)).includes('plaintext-'), 'neither in messages and versions nor in backups');
  const records = async () => [...(await entriesOf(store))].filter(([key]) => /^(thread|version)/.test(key));
  const before = await records();
  const again = await encrypted(threads, 't');
  t.is(again.state, 'done');
  t.is(again.moved, 0);
  t.deepEqual(await records(), before);
  t.deepEqual(
    (await allMessages(threads, 't')).map(({ body }) => JSON.stringify(body)),
    [...Array.from({ length: 5 }, (_, i) => `{"text":"plaintext-${i}"}`), '"plaintext-5"'],
  );
});

test('14: a policy that covers more leaves nothing of it in plain, not in the backups either', async (t) => {
  const { kms, store, threads } = await ground(t, { fields: ['body.a'] });
  await threads.createThread({ threadId: 't' });
  const body = { a: 'secret-a', b: 'secret-b' };
  const { messageId } = await threads.append('t', { body });
  await threads.edit('t', messageId, body);
  t.true((await textOf(store)).includes('secret-b'));
  await threads.close();
  const wider = await opened(t, { kms, store, fields: ['body.a', 'body.b'] });
  t.is((await encrypted(wider, 't')).moved, 2);
  t.false((await textOf(store)).includes('secret-'));
  t.deepEqual((await wider.read('t', messageId))?.body, body);
});

test('14: what an earlier rotation has kept in plain goes when a policy covers it', async (t) => {
  const { kms, store, threads } = await ground(t, { fields: ['body.a'] });
  await threads.createThread({ threadId: 't' });
  const { messageId } = await threads.append('t', { body: { a: 'secret-a', b: 'secret-b' } });
  await rotated(threads, 't');
  await threads.edit('t', messageId, { a: 'secret-a' });
  t.true((await textOf(store)).includes('secret-b'));
  const wider = await opened(t, { kms, store, fields: ['body'] });
  t.is((await encrypted(wider, 't')).state, 'done');
  t.false((await textOf(store)).includes('secret-'));
  // What is kept as the policy says stays.
  await rotated(wider, 't');
  const before = await entriesOf(store);
  await encrypted(wider, 't');
  const after = await entriesOf(store);
  for (const [key, text] of before) if (key.startsWith('backup:')) t.is(after.get(key), text);
  t.true([...before.keys()].some((key) => key.startsWith('backup:')));
});

test('15: policies may change and overlap, and all messages are read', async (t) => {
  const { kms, store, threads } = await ground(t);
  await threads.createThread({ threadId: 't' });
  const body = { card: { number: '4111', cvv: '123' }, items: [{ note: 'n' }] };
  const policies = [
    ['body.card.number', 'body.card', 'body'],
    ['body.card', 'body.card.number'],
    ['body.items.*.note'],
    [],
    ['body.*'],
    ['body'],
  ];
  for (const fields of policies) {
    const writer = await opened(t, { kms, store, fields });
    await writer.append('t', { body });
  }
  for (const fields of policies) {
    const reader = await opened(t, { kms, store, fields });
    for (const message of await allMessages(reader, 't')) t.deepEqual(message.body, body);
  }
});

test('16: messages that cannot be read say so in their place, and the listing goes on', async (t) => {
  const { kms, store, threads } = await ground(t);
  await threads.createThread({ threadId: 't' });
  const stranger = await kms.createDekForThread('elsewhere');
  const made: Message[] = [];
  for (let i = 0; i < 8; i += 1) made.push(await threads.append('t', { body: `body-${i}` }));
  const key = (i: number) => `thread:t:msg:${made[i]?.messageId.slice(4)}`;
  const text = async (i: number) => (await entriesOf(store)).get(key(i)) as string;
  const flipped = (await text(0)).replace(/"v":"(.)/, (_, first) => `"v":"${first === 'A' ? 'B' : 'A'}`);
  await put(store, {
    [key(0)]: flipped,
    [key(1)]: '{"id":"torn',
    [key(2)]: 'null',
    [key(3)]: (await text(3)).replace(/"k":"k_[^"]+"/, `"k":"${stranger.keyId}"`),
    // A message put into another's place.
    [key(4)]: (await text(5)).replaceAll(made[5]?.messageId as string, made[4]?.messageId as string),
    [key(6)]: (await text(6)).replace(/"v":"[^"]+"/, '"v":"AAAA"'),
  });
  const { messages } = await threads.list('t');
  t.deepEqual(
    messages.map(({ body }) => body),
    [null, null, null, null, null, 'body-5', null, 'body-7'],
  );
  t.deepEqual(
    messages.map(({ error }) => error?.code),
    [
      'AUTHENTICATION_FAILED',
      'STORE_UNAVAILABLE',
      'STORE_UNAVAILABLE',
      'AUTHENTICATION_FAILED',
      'AUTHENTICATION_FAILED',
      undefined,
      'AUTHENTICATION_FAILED',
      undefined,
    ],
  );
  for (const { messageId, error } of messages) t.is((await threads.read('t', messageId))?.error?.code, error?.code);
  // Whatever is asked of one that is damaged is refused with an error of ours, and it can be deleted.
  const damaged = messages[1]?.messageId as string;
  await t.throwsAsync(threads.edit('t', damaged, 1), { code: 'STORE_UNAVAILABLE' });
  await t.throwsAsync(threads.versions('t', damaged), { code: 'STORE_UNAVAILABLE' });
  await threads.delete('t', damaged);
  t.true((await threads.read('t', damaged))?.isDeleted);
});

test('16: a key that is disabled takes its own messages with it only', async (t) => {
  const { kms, threads } = await ground(t);
  const { keyId } = await threads.createThread({ threadId: 't' });
  const bodies = Array.from({ length: 40 }, (_, i) => i);
  for (const body of bodies) await threads.append('t', { body });
  const { jobId } = await threads.rotateThreadDek('t', { messagesPerSecond: 2 });
  while ((await threads.job(jobId)).moved === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  const { moved } = await threads.cancelJob(jobId);
  t.true(moved < bodies.length, 'it was cancelled in the middle');
  await kms.disableKey(keyId as string);
  const { messages } = await threads.list('t');
  t.deepEqual(
    messages.map(({ body }) => body),
    bodies.map((body) => (body < moved ? body : null)),
  );
  t.deepEqual(
    messages.map(({ error }) => error?.code),
    bodies.map((body) => (body < moved ? undefined : 'KEY_DISABLED')),
  );
});

test('17: what a user sends that looks like an envelope is data, encrypted or not', async (t) => {
  const { kms, store, threads } = await ground(t);
  const { keyId } = await threads.createThread({ threadId: 't' });
  const { ciphertext } = await kms.encryptWithDek(keyId as string, Buffer.from('"forged"'));
  const v = Buffer.from(ciphertext).toString('base64');
  const bodies = [
    { _enc: 'gcm', v },
    { a: { _enc: 'gcm', v }, b: [{ _enc: 'gcm1', k: keyId, v }] },
    { _enc: 'lit', v: { _enc: 'gcm1', k: keyId, v } },
    { _enc: 'lit', v: { _enc: 'lit', v: {} } },
    { _enc: { _enc: 'gcm', v } },
    { a: { _enc: 'lit', v: 1 } },
  ];
  for (const fields of [['body'], ['body.a'], ['body.a.v', 'body.v'], []]) {
    const writer = await opened(t, { kms, store, fields });
    for (const body of bodies) await writer.append('t', { body });
  }
  const read = async () => (await allMessages(threads, 't')).map(({ body, error }) => error ?? body);
  const expected = [bodies, bodies, bodies, bodies].flat();
  t.deepEqual(await read(), expected);
  await rotated(threads, 't');
  t.deepEqual(await read(), expected);
});

test('18: in external mode no master key is asked for', async (t) => {
  const { daemon } = await running(t);
  const directory = mkdtempSync(join(tmpdir(), 'kms-threads-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const env = { PROGRESSDB_KMS_MODE: 'external', PROGRESSDB_KMS_SOCKET: daemon.socket as string };
  const kms = await openKms({ ...env, PROGRESSDB_KMS_MASTER_KEY_FILE: join(directory, 'absent.key') });
  t.teardown(() => kms.close());
  const threads = await opened(t, { kms, store: openMemoryThreadStore() });
  await threads.createThread({ threadId: 't' });
  await threads.append('t', { body: 'through the daemon' });
  t.is((await rotated(threads, 't')).state, 'done');
  t.is((await threads.list('t')).messages[0]?.body, 'through the daemon');
});

test('the mortality of these tests strikes', async (t) => {
  const struck = new Mortality(2, 'after');
  const store = struck.of(openMemoryThreadStore());
  await put(store, { a: '1' });
  await t.throwsAsync(put(store, { b: '2' }), { code: 'STORE_UNAVAILABLE' });
  await t.throwsAsync(store.get(['a']), { code: 'STORE_UNAVAILABLE' });
});
