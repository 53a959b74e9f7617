import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { connectKms } from '../../dist/client/index.js';
import type { Provider } from '../../dist/provider.js';
import { openMemoryThreadStore } from '../../dist/threads/memory-store.js';
import type { Message } from '../../dist/threads/thread.js';
import type { ThreadStore } from '../../dist/threads/thread-store.js';
import { openThreads } from '../../dist/threads/threads.js';
import { running } from '../daemon/running.js';
import * as json from './json-bodies.js';
import { bytesOf, newStorePath, openedLmdb } from './lmdb-ground.js';
import { allMessages, allVersions, embedded, encrypted, keysInUse, opened, rotated, textOf } from './threads-ground.js';

type Step =
  | { does: 'append'; fields: string[]; body: json.Marked }
  | { does: 'edit'; fields: string[]; body: json.Marked; of: number }
  | { does: 'delete'; fields: string[]; of: number }
  | { does: 'rotate'; fields: string[] }
  | { does: 'encrypt'; fields: string[] };

const body = json.body.map(json.marked);
const fields = json.policy;
const append = fc.record({ does: fc.constant('append' as const), fields, body });
const step: fc.Arbitrary<Step> = fc.oneof(
  append,
  fc.record({ does: fc.constant('edit' as const), fields, body, of: fc.nat() }),
  fc.record({ does: fc.constant('rotate' as const), fields }),
  fc.record({ does: fc.constant('encrypt' as const), fields }),
  { weight: 1, arbitrary: fc.record({ does: fc.constant('delete' as const), fields, of: fc.nat() }) },
);
const steps = fc.tuple(append, fc.array(step, { maxLength: 8 })).map(([first, more]) => [first, ...more] as Step[]);

/** What a message is to be: what it was before each edit, and what it is. */
interface Expected {
  messageId: string;
  bodies: json.Marked[];
}

const textsOf = (messages: ReadonlyArray<{ body: unknown; error: unknown }>) =>
  messages.map((message) => message.error ?? JSON.stringify(message.body));

/** Does the steps, each as a process of its own with its own field policy, and checks all that there is after each. */
async function live(t: ExecutionContext, kms: Provider, store: ThreadStore, todo: readonly Step[]): Promise<void> {
  const messages: Expected[] = [];
  const hidden = new Set<string>();
  const hide = (marks: readonly string[]) => {
    for (const mark of marks) hidden.add(mark);
  };
  for (const [nth, one] of todo.entries()) {
    const threads = await openThreads({ kms, store, fields: one.fields });
    if (nth === 0) await threads.createThread({ threadId: 't' });
    const target = 'of' in one ? messages[one.of % messages.length] : undefined;
    if (one.does === 'append') {
      const made = await threads.append('t', { body: one.body.body });
      t.is(JSON.stringify(made.body), JSON.stringify(one.body.body));
      messages.push({ messageId: made.messageId, bodies: [one.body] });
      hide(json.covered(one.body, one.fields));
    } else if (one.does === 'edit' && target !== undefined) {
      await threads.edit('t', target.messageId, one.body.body);
      target.bodies.push(one.body);
      hide(json.covered(one.body, one.fields));
    } else if (one.does === 'delete' && target !== undefined) {
      await threads.delete('t', target.messageId);
      messages.splice(messages.indexOf(target), 1);
    } else if (one.does === 'rotate') {
      t.is((await rotated(threads, 't')).state, 'done');
      const { keyId } = (await threads.thread('t')) as { keyId: string };
      for (const used of await keysInUse(store)) t.is(used, keyId);
    } else if (one.does === 'encrypt') {
      t.is((await encrypted(threads, 't')).state, 'done');
      for (const { bodies } of messages) for (const each of bodies) hide(json.covered(each, one.fields));
    }
    // In no certain order: each of these processes has a clock of its own, and they share milliseconds.
    const listed = new Map((await allMessages(threads, 't')).map((message) => [message.messageId, message]));
    for (const { messageId, bodies } of messages) {
      const text = JSON.stringify(bodies.at(-1)?.body);
      const message = listed.get(messageId) as Message;
      t.deepEqual(textsOf([message]), [text]);
      t.deepEqual(message.body, JSON.parse(text));
    }
    t.is([...listed.values()].filter(({ isDeleted }) => !isDeleted).length, messages.length);
    await threads.close();
    const text = await textOf(store);
    for (const mark of hidden) if (text.includes(mark)) t.fail(`${mark} is in the store after ${one.does}`);
  }
  const threads = await openThreads({ kms, store });
  for (const { messageId, bodies } of messages) {
    const expected = bodies.slice(0, -1).map((each) => JSON.stringify(each.body));
    t.deepEqual(textsOf(await allVersions(threads, 't', messageId)).sort(), expected.sort());
  }
  await threads.close();
}

// One after the other: each keeps the event loop, which the daemon runs on, too.
test.serial(
  'any body is read as it was written, under policies that change, and nothing that they cover is in the store',
  async (t) => {
    const kms = await embedded(t);
    await fc.assert(
      fc.asyncProperty(steps, (todo) => live(t, kms, openMemoryThreadStore(), todo)),
      { numRuns: 120, endOnFailure: true },
    );
  },
);

test.serial('the same in LMDB', async (t) => {
  const kms = await embedded(t);
  await fc.assert(
    fc.asyncProperty(steps, async (todo) => live(t, kms, await openedLmdb(t, newStorePath(t)), todo)),
    { numRuns: 8, endOnFailure: true },
  );
});

test.serial('the same with a daemon', async (t) => {
  const { daemon } = await running(t);
  const kms = await connectKms({ socket: daemon.socket as string });
  t.teardown(() => kms.close());
  await fc.assert(
    fc.asyncProperty(steps, (todo) => live(t, kms, openMemoryThreadStore(), todo)),
    { numRuns: 20, endOnFailure: true },
  );
});

test('the search for what must not be there finds what is there', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  const threads = await opened(t, { kms, store, fields: ['body.a'] });
  await threads.createThread({ threadId: 't' });
  const given = json.marked({ a: 'covered', b: ['open'] });
  await threads.append('t', { body: given.body });
  t.deepEqual(json.covered(given, ['body.a']), [given.marks[0]?.mark]);
  t.deepEqual(json.covered(given, ['body.*.0']), [given.marks[1]?.mark]);
  const text = await textOf(store);
  t.false(text.includes(given.marks[0]?.mark as string));
  t.true(text.includes(given.marks[1]?.mark as string));
  await rotated(threads, 't');
  t.is((await textOf(store)).split(given.marks[1]?.mark as string).length, 3, 'in the message and in its backup');
});

test('encrypt-existing leaves no plaintext in the bytes of an LMDB store', async (t) => {
  const kms = await embedded(t);
  const path = newStorePath(t);
  const store = await openedLmdb(t, path);
  const plain = await openThreads({ store });
  await plain.createThread({ threadId: 't' });
  for (let i = 0; i < 300; i += 1) await plain.append('t', { body: { note: `plaintext-${i}` } });
  await plain.close();
  const found = () => bytesOf(path).some((bytes) => bytes.includes('plaintext-'));
  t.true(found());
  const threads = await opened(t, { kms, store });
  t.is((await encrypted(threads, 't')).state, 'done');
  t.false(found());
  t.deepEqual((await allMessages(threads, 't')).map(({ body }) => body).at(-1), { note: 'plaintext-299' });
});

test('what does not come back from JSON as it was is refused, and nothing is stored', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  const threads = await opened(t, { kms, store });
  await threads.createThread({ threadId: 't' });
  const before = await textOf(store);
  const loop: unknown[] = [];
  loop.push(loop);
  const holes = [1];
  holes[2] = 3;
  for (const given of [
    undefined,
    Number.NaN,
    new Date(),
    () => 1,
    1n,
    { a: undefined },
    loop,
    holes,
    { toJSON: () => 1 },
    new Map(),
  ]) {
    await t.throwsAsync(threads.append('t', { body: given }), { code: 'INVALID_ARGUMENT' });
  }
  t.is(await textOf(store), before);
});

test('a member of any length is encrypted at its place', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  const threads = await opened(t, { kms, store, fields: ['body.*'] });
  await threads.createThread({ threadId: 't' });
  const name = 'n'.repeat(100_000);
  await threads.append('t', { body: { [name]: 'hidden-text', [`${name}x`]: 'other' } });
  t.false((await textOf(store)).includes('hidden-text'));
  t.deepEqual((await threads.list('t')).messages[0]?.body, { [name]: 'hidden-text', [`${name}x`]: 'other' });
  // Two places of one length have two names: a value that changes places does not open.
  const [key, text] = [...(await store.range({ from: 'thread:t:msg:', to: 'thread:t:msg;', limit: 1 }))].map((entry) => [
    entry.key,
    Buffer.from(entry.value).toString(),
  ])[0] as [string, string];
  const record = JSON.parse(text);
  [record.body[name], record.body[`${name}x`]] = [record.body[`${name}x`], record.body[name]];
  await store.commit([{ expect: [], put: [{ key, value: Buffer.from(JSON.stringify(record)) }], remove: [] }]);
  t.is((await threads.list('t')).messages[0]?.error?.code, 'AUTHENTICATION_FAILED');
});
