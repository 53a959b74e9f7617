import test, { type ExecutionContext } from 'ava';
import type { EmbeddedKms } from '../../dist/create.js';
import { openMemoryThreadStore } from '../../dist/threads/memory-store.js';
import type { ThreadStore } from '../../dist/threads/thread-store.js';
import type { Threads } from '../../dist/threads/threads.js';
import { besideBody, FIRST_TS, OriginalServer } from './original-server.js';
import {
  allMessages,
  allVersions,
  embedded,
  encrypted,
  entriesOf,
  keysInUse,
  opened,
  put,
  rotated,
  stateOf,
  textOf,
} from './threads-ground.js';

const BIG = '{"n":12345678901234567890123,"f":0.1000,"e":1E5,"__proto__":{"x":1},"s":"secret-digits"}';

interface Old {
  kms: EmbeddedKms;
  store: ThreadStore;
  server: OriginalServer;
  threads: Threads;
}

async function old(t: ExecutionContext, fields?: string[]): Promise<Old> {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  const server = new OriginalServer(kms, store, 'old');
  await server.createThread();
  return { kms, store, server, threads: await opened(t, { kms, store, ...(fields ? { fields } : {}) }) };
}

/** Bodies as the original stores them, with all forms there are, and what each is. */
async function forms(server: OriginalServer): Promise<Array<[stored: string, plain: string]>> {
  const inner = await server.envelope('"4111"');
  return [
    [await server.envelope(BIG), BIG],
    [`{"card":${inner},"open":7}`, '{"card":"4111","open":7}'],
    // Overlapping policies: body.card.number, then body.card, then the body.
    [await server.envelope(`{"card":${await server.envelope(`{"number":${inner}}`)}}`), '{"card":{"number":"4111"}}'],
    [`[${inner},[${inner}],{"_enc":"gcm"}]`, '["4111",["4111"],{"_enc":"gcm"}]'],
    ['"never encrypted"', '"never encrypted"'],
    [BIG, BIG],
    ['null', 'null'],
  ];
}

test('what the original wrote is read: whole bodies, fields, envelopes within envelopes, and plain', async (t) => {
  const { server, threads } = await old(t);
  const bodies = await forms(server);
  const made = [];
  for (const [stored] of bodies) made.push(await server.append(stored));
  const messages = await allMessages(threads, 'old');
  t.deepEqual(
    messages.map(({ body, error }) => error ?? JSON.stringify(body)),
    bodies.map(([, plain]) => JSON.stringify(JSON.parse(plain))),
  );
  t.is(messages[0]?.ts, String(FIRST_TS + 1n));
  t.is(messages[0]?.author, 'ann');
  const one = await threads.read('old', made[2]?.id as string);
  t.deepEqual(one?.body, { card: { number: '4111' } });
  t.deepEqual(await allVersions(threads, 'old', made[2]?.id as string), [], 'nobody has edited it');
  t.is((await threads.thread('old'))?.title, 'Old');
});

for (const fields of [['body'], ['body.card', 'body.n', 'body.*.number'], []]) {
  test(`a rotation migrates it digit for digit, versions too, under [${fields}]`, async (t) => {
    const { kms, server, store, threads } = await old(t, fields);
    const bodies = await forms(server);
    const made = [];
    for (const [stored] of bodies) made.push(await server.append(stored));
    const before = await entriesOf(store);
    t.is((await rotated(threads, 'old')).state, 'done');
    const after = await entriesOf(store);
    const { keyId } = (await threads.thread('old')) as { keyId: string };
    t.not(keyId, server.keyId);
    t.is(await stateOf(kms, server.keyId), 'disabled');
    for (const key of before.keys())
      if (/^(thread:old:msg|version)/.test(key))
        t.is(besideBody(after.get(key) as string), besideBody(before.get(key) as string));
    t.deepEqual([...(await keysInUse(store))], [keyId]);
    t.false((await textOf(store)).includes('"_enc":"gcm","v"'), 'nothing of the old form is left');
    const meta = after.get('thread:old:meta') as string;
    for (const part of [`"created_ts":${FIRST_TS}`, '"slug":"old"', '"n":12345678901234567890.50', `"key_id":"${keyId}"`])
      t.true(meta.includes(part), part);
    t.is(after.get('kms:map:thread:old'), keyId);
    t.deepEqual(
      (await allMessages(threads, 'old')).map(({ body, error }) => error ?? JSON.stringify(body)),
      bodies.map(([, plain]) => JSON.stringify(JSON.parse(plain))),
    );
    // The digits are in what was encrypted, which only a key tells.
    const record = JSON.parse(after.get(made[0]?.key as string) as string);
    t.deepEqual(record.enc.foreign, true);
    const again = (await rotated(threads, 'old')).state;
    t.is(again, 'done');
    t.is(besideBody((await entriesOf(store)).get(made[0]?.key as string) as string), besideBody(made[0]?.text as string));
  });
}

test('numbers of more digits than a double keep all of them through two rotations and a policy that takes them out again', async (t) => {
  const { kms, server, store, threads } = await old(t);
  const { key } = await server.append(await server.envelope('{"n":12345678901234567890123,"f":0.1000}'));
  await rotated(threads, 'old', { keepBackupsMs: 0 });
  await rotated(threads, 'old', { keepBackupsMs: 0 });
  const { body, enc } = JSON.parse((await entriesOf(store)).get(key) as string);
  t.deepEqual(enc.at, [[]]);
  const decrypt = async (aad: Uint8Array) =>
    Buffer.from(await kms.decryptWithDek(body.k, Buffer.from(body.v, 'base64'), aad)).toString();
  const { envelopeAad } = await import('../../dist/threads/envelope.js');
  t.is(
    await decrypt(envelopeAad('old', JSON.parse((await entriesOf(store)).get(key) as string).id, [])),
    '{"n":12345678901234567890123,"f":0.1000}',
  );
});

test('numbers of more digits than a double stay as they are where nothing is encrypted', async (t) => {
  const { server, store, threads } = await old(t, ['body.s']);
  const { key } = await server.append(BIG);
  for (let i = 0; i < 3; i += 1) {
    if (i > 0) t.is((await rotated(threads, 'old')).state, 'done');
    t.true((await entriesOf(store)).get(key)?.includes('"n":12345678901234567890123,"f":0.1000,"e":1E5,"__proto__":{"x":1}'));
  }
  t.false((await entriesOf(store)).get(key)?.includes('secret-digits'));
});

test('what the original encrypted stays encrypted after a migration, whatever the policy says today', async (t) => {
  const { server, store, threads } = await old(t, ['body.other']);
  await server.append(`{"card":${await server.envelope('"secret-card"')},"other":"secret-other","open":"open"}`);
  await rotated(threads, 'old');
  const text = await textOf(store);
  t.false(text.includes('secret-'));
  t.true(text.includes('"open"'));
  t.deepEqual((await threads.list('old')).messages[0]?.body, { card: 'secret-card', other: 'secret-other', open: 'open' });
});

test('what the original wrote is edited and deleted, and its other members stay', async (t) => {
  const { server, store, threads } = await old(t);
  const { id, key, text } = await server.append(await server.envelope(BIG));
  await threads.edit('old', id, { now: 'edited-body' });
  t.is(besideBody((await entriesOf(store)).get(key) as string), besideBody(text));
  t.deepEqual((await threads.read('old', id))?.body, { now: 'edited-body' });
  t.deepEqual(
    (await allVersions(threads, 'old', id)).map(({ body }) => JSON.stringify(body)),
    [JSON.stringify(JSON.parse(BIG))],
  );
  t.false((await textOf(store)).includes('edited-body'));
  t.is((await rotated(threads, 'old')).state, 'done');
  t.deepEqual((await threads.read('old', id))?.body, { now: 'edited-body' });
  t.is((await allVersions(threads, 'old', id)).length, 1);
  await threads.delete('old', id);
  const left = await entriesOf(store);
  t.false(left.get(key)?.includes('"body"'));
  t.true(left.get(key)?.includes('"reply_to":"msg-0"'));
  t.is([...left.keys()].filter((name) => name.startsWith('version:')).length, 0);
});

test('what the original edited is one message, where it put it last, and what it was before are its versions', async (t) => {
  const { server, store, threads } = await old(t);
  const { id } = await server.append(await server.envelope('"first"'));
  const { id: other } = await server.append(await server.envelope('"other"'));
  await server.append(await server.envelope('"second"'), undefined, id);
  await server.append(await server.envelope('"last"'), undefined, id);
  await server.append(await server.envelope('"after"'));
  const seen = async () => {
    const messages = [];
    // Page by page: what replaces a message is on another one.
    for (let cursor: string | null | undefined; cursor !== null; ) {
      const page = await threads.list('old', { limit: 1, ...(cursor === undefined ? {} : { cursor }) });
      messages.push(...page.messages.map(({ body, error }) => error ?? body));
      cursor = page.next;
    }
    const versions = (await allVersions(threads, 'old', id)).map(({ body, error }) => error ?? body);
    return { messages, versions, read: (await threads.read('old', id))?.body };
  };
  const expected = { messages: ['other', 'last', 'after'], versions: ['first', 'second'], read: 'last' as unknown };
  t.deepEqual(await seen(), expected);
  t.is((await rotated(threads, 'old')).state, 'done');
  t.deepEqual(await seen(), expected);
  await threads.edit('old', id, 'ours');
  const edited = { messages: ['other', 'ours', 'after'], versions: ['first', 'second', 'last'], read: 'ours' };
  t.deepEqual(await seen(), edited);
  t.is((await rotated(threads, 'old', { keepBackupsMs: 0 })).state, 'done');
  t.deepEqual(await seen(), edited);
  await threads.delete('old', id);
  t.deepEqual(
    (await allMessages(threads, 'old')).map(({ body, isDeleted }) => [body, isDeleted]),
    [
      ['other', false],
      [null, true],
      ['after', false],
    ],
  );
  const left = [...(await entriesOf(store)).entries()].filter(([key, text]) => !key.startsWith('backup:') && text.includes(id));
  t.is(left.length, 1, 'what it was, in all places, is gone');
  t.is((await threads.read('old', other))?.body, 'other');
});

test('a job takes each entry of what the original edited once', async (t) => {
  const { server, threads } = await old(t);
  const { id } = await server.append(await server.envelope('0'));
  for (let i = 1; i < 40; i += 1) await server.append(await server.envelope(String(i)), undefined, id);
  const job = await rotated(threads, 'old');
  t.is(job.total, 80);
  t.is(job.moved, 80);
  t.deepEqual(
    (await allMessages(threads, 'old')).map(({ body }) => body),
    [39],
  );
});

test('what the original deleted is deleted, and nothing of it is told', async (t) => {
  const { server, threads } = await old(t);
  const { id } = await server.append(await server.envelope('"secret"'));
  await server.append(await server.envelope('"secret"'), '"reply_to":"","deleted":true', id);
  for (let i = 0; i < 2; i += 1) {
    t.deepEqual(
      (await threads.list('old')).messages.map(({ body, isDeleted }) => [body, isDeleted]),
      [[null, true]],
    );
    t.is((await threads.read('old', id))?.body, null);
    await t.throwsAsync(threads.versions('old', id), { code: 'NOT_FOUND' });
    if (i === 0) t.is((await rotated(threads, 'old')).state, 'done');
  }
});

test('once a thread is migrated, what is put there in the old form is refused, and the rest is read', async (t) => {
  const { kms, server, threads } = await old(t);
  const { id } = await server.append(await server.envelope('"first"'));
  await rotated(threads, 'old');
  server.keyId = ((await threads.thread('old')) as { keyId: string }).keyId;
  const forged = await server.append(await server.envelope('"forged"'));
  const plain = await server.append('"forged"');
  const messages = await allMessages(threads, 'old');
  t.deepEqual(
    messages.map(({ body }) => body),
    ['first', null, null],
  );
  t.deepEqual(
    messages.map(({ error }) => error?.code),
    [undefined, 'AUTHENTICATION_FAILED', 'AUTHENTICATION_FAILED'],
  );
  t.is((await threads.read('old', forged.id))?.error?.code, 'AUTHENTICATION_FAILED');
  t.is((await threads.read('old', plain.id))?.body, null);
  t.is((await threads.read('old', id))?.body, 'first');
  const made = await opened(t, { kms, store: openMemoryThreadStore() });
  t.truthy(await made.createThread({ threadId: 'new' }));
});

test('a thread of ours never takes the old form', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  const threads = await opened(t, { kms, store });
  const { keyId } = await threads.createThread({ threadId: 'old' });
  const server = new OriginalServer(kms, store, 'old');
  server.keyId = keyId as string;
  await server.append(await server.envelope('"forged"'));
  t.is((await threads.list('old')).messages[0]?.error?.code, 'AUTHENTICATION_FAILED');
});

test('a store of the original in plaintext is encrypted, and what only looks like an envelope in it stays what it is', async (t) => {
  const kms = await embedded(t);
  const store = openMemoryThreadStore();
  await put(store, { 'thread:old:meta': '{"id":"old","title":"Old","created_ts":1712345678901234567}' });
  const server = new OriginalServer(kms, store, 'old');
  const like = `{"_enc":"gcm","v":"${Buffer.alloc(40, 1).toString('base64')}"}`;
  const made = [await server.append('{"text":"plain-text","n":12345678901234567890}'), await server.append(like)];
  const threads = await opened(t, { kms, store });
  const bodies = async () => (await allMessages(threads, 'old')).map(({ body, error }) => error ?? body);
  const expected = [JSON.parse('{"text":"plain-text","n":12345678901234567890}'), JSON.parse(like)];
  t.deepEqual(await bodies(), expected);
  t.is((await encrypted(threads, 'old')).state, 'done');
  t.deepEqual(await bodies(), expected);
  t.false((await textOf(store)).includes('plain-text'));
  const after = await entriesOf(store);
  for (const { key, text } of made) t.is(besideBody(after.get(key) as string), besideBody(text));
});

test('the body of a message that the original marked as deleted does not outlive a job', async (t) => {
  const { server, store, threads } = await old(t);
  await server.append('"deleted-text"', '"reply_to":"","deleted":true');
  t.deepEqual(
    (await threads.list('old')).messages.map(({ body, isDeleted }) => [body, isDeleted]),
    [[null, true]],
  );
  t.true((await textOf(store)).includes('deleted-text'));
  t.is((await encrypted(threads, 'old')).state, 'done');
  t.false((await textOf(store)).includes('deleted-text'));
});

test('a body that is too deep to be walked is reported in place, and blocks a job instead of ending it', async (t) => {
  const { server, threads } = await old(t);
  const deep = '['.repeat(9_000) + ']'.repeat(9_000);
  await server.append(await server.envelope('"before"'));
  const bad = [await server.append(deep), await server.append(await server.envelope(deep))];
  await server.append(await server.envelope('"after"'));
  const messages = await allMessages(threads, 'old');
  t.deepEqual(
    messages.map(({ body }) => body),
    ['before', null, null, 'after'],
  );
  t.deepEqual(
    messages.map(({ error }) => error?.code),
    [undefined, 'STORE_UNAVAILABLE', 'STORE_UNAVAILABLE', undefined],
  );
  const job = await rotated(threads, 'old');
  t.is(job.state, 'blocked');
  t.is(job.blockedBy.length, 2);
  t.is(job.blockedBy[1]?.messageId, bad[1]?.id);
  await threads.delete('old', messages[1]?.messageId as string);
  await threads.delete('old', bad[1]?.id as string);
  await threads.resumeJob(job.jobId);
  t.is((await threads.waitForJob(job.jobId)).state, 'done');
});
