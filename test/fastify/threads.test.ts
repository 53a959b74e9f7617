import test from 'ava';
import { KmsError } from '../../dist/errors.js';
import { type Answered, changed, served, storedText } from './served.js';

test('a thread is made, found, and not made twice', async (t) => {
  const { ask } = await served(t);
  const made = await ask('POST', '/threads', { thread_id: 'chat/1', title: 'One' });
  t.is(made.status, 201);
  t.like(made.json, { thread_id: 'chat/1', title: 'One' });
  t.regex(made.json.key_id, /^k_[0-9a-f]{32}$/);
  t.deepEqual(Object.keys(made.json).sort(), ['created_at', 'key_id', 'thread_id', 'title']);
  t.deepEqual((await ask('GET', '/threads/chat%2F1')).json, made.json);
  const again = await ask('POST', '/threads', { thread_id: 'chat/1' });
  t.is(again.status, 409);
  t.is(again.json.error.code, 'CONFLICT');
  const unnamed = await ask('POST', '/threads', {});
  t.regex(unnamed.json.thread_id, /^t_[0-9a-f]{32}$/);
});

test('the longest id, of slashes only, is found by its path', async (t) => {
  const { ask } = await served(t);
  const id = '/'.repeat(256);
  t.is((await ask('POST', '/threads', { thread_id: id })).status, 201);
  const path = `/threads/${encodeURIComponent(id)}`;
  t.is((await ask('GET', path)).json.thread_id, id);
  t.is((await ask('POST', `${path}/messages`, { body: 'hello' })).status, 201);
  t.is((await ask('GET', `${path}/messages`)).json.messages[0].body, 'hello');
  t.is((await ask('GET', `/threads/${encodeURIComponent(`${id}/`)}`)).status, 414, 'one longer is no id');
});

test('a message is written, read, edited, with the version before, and deleted', async (t) => {
  const { ask, store } = await served(t);
  await ask('POST', '/threads', { thread_id: 'a' });
  const body = { someName: 'secret text', __proto__x: 1, list: [null, 1.5] };
  const made = await ask('POST', '/threads/a/messages', { body, author: 'ann' });
  t.is(made.status, 201);
  const { message_id: id } = made.json;
  t.deepEqual(Object.keys(made.json).sort(), [
    ...['author', 'body', 'created_at', 'edited_at', 'error', 'is_deleted', 'message_id', 'seq', 'thread_id', 'ts'],
  ]);
  t.deepEqual(made.json.body, body);
  t.false((await storedText(store)).includes('secret text'));
  const path = `/threads/a/messages/${id}`;
  t.deepEqual((await ask('GET', path)).json, made.json);
  const edited = await ask('PUT', path, { body: 'another' });
  t.is(edited.status, 200);
  t.is(edited.json.body, 'another');
  t.truthy(edited.json.edited_at);
  const { versions } = (await ask('GET', `${path}/versions`)).json;
  t.deepEqual(
    versions.map((version: Answered) => version.body),
    [body],
  );
  t.deepEqual((await ask('DELETE', path)).json, { status: 'ok' });
  t.like((await ask('GET', path)).json, { is_deleted: true, body: null });
  t.is((await ask('PUT', path, { body: 1 })).status, 404);
});

test('versions come page by page, in both directions', async (t) => {
  const { ask } = await served(t);
  await ask('POST', '/threads', { thread_id: 'a' });
  const { message_id: id } = (await ask('POST', '/threads/a/messages', { body: 0 })).json;
  const path = `/threads/a/messages/${id}`;
  for (let i = 1; i <= 5; i += 1) await ask('PUT', path, { body: i });
  const bodies = async (query: string) => {
    const { json } = await ask('GET', `${path}/versions${query}`);
    return [json.versions.map((version: Answered) => version.body), json.next];
  };
  t.deepEqual(await bodies(''), [[0, 1, 2, 3, 4], null]);
  const [first, next] = await bodies('?limit=3');
  t.deepEqual(first, [0, 1, 2]);
  t.deepEqual(await bodies(`?limit=3&cursor=${next}`), [[3, 4], null]);
  t.deepEqual((await bodies('?limit=2&reverse=true'))[0], [4, 3]);
  for (const query of ['?limit=0', '?cursor=x', '?nobody=1'])
    t.is((await ask('GET', `${path}/versions${query}`)).status, 400, query);
});

test('a body with a member named __proto__ comes back as it was', async (t) => {
  const { app, ask } = await served(t);
  await ask('POST', '/threads', { thread_id: 'a' });
  const headers = { 'content-type': 'application/json; charset=utf-8' };
  const payload = '{"body":{"__proto__":{"x":1},"constructor":{"prototype":2}}}';
  const made = await app.inject({ method: 'POST', url: '/threads/a/messages', payload, headers });
  t.is(made.statusCode, 201);
  const { body } = await app.inject('/threads/a/messages');
  t.true(body.includes('"body":{"__proto__":{"x":1},"constructor":{"prototype":2}}'), body);
});

test('messages are listed page by page, in both directions', async (t) => {
  const { ask } = await served(t);
  await ask('POST', '/threads', { thread_id: 'a' });
  for (let i = 0; i < 5; i += 1) await ask('POST', '/threads/a/messages', { body: i });
  const bodies = async (query: string) => {
    const { json } = await ask('GET', `/threads/a/messages${query}`);
    return [json.messages.map((message: Answered) => message.body), json.next];
  };
  t.deepEqual(await bodies(''), [[0, 1, 2, 3, 4], null]);
  const [first, next] = await bodies('?limit=2');
  t.deepEqual(first, [0, 1]);
  t.deepEqual((await bodies(`?limit=2&cursor=${next}`))[0], [2, 3]);
  const [last, before] = await bodies('?limit=2&reverse=true');
  t.deepEqual(last, [4, 3]);
  t.deepEqual((await bodies(`?limit=2&reverse=true&cursor=${before}`))[0], [2, 1]);
  t.deepEqual((await bodies('?reverse=false'))[0], [0, 1, 2, 3, 4]);
});

test('one unreadable message is told in its place, and the others are there', async (t) => {
  const { ask, store } = await served(t);
  await ask('POST', '/threads', { thread_id: 'a' });
  const ids: string[] = [];
  for (const body of ['x', 'y', 'z']) ids.push((await ask('POST', '/threads/a/messages', { body })).json.message_id);
  const key = `thread:a:msg:${ids[1]!.slice(4)}`;
  const [value] = await store.get([key]);
  const text = Buffer.from(value!)
    .toString('utf8')
    .replace(/"v":"..../, '"v":"AAAA');
  await store.commit([{ expect: [], put: [{ key, value: Buffer.from(text) }], remove: [] }]);
  const { status, json } = await ask('GET', '/threads/a/messages');
  t.is(status, 200);
  t.deepEqual(
    json.messages.map((message: Answered) => message.body),
    ['x', null, 'z'],
  );
  t.deepEqual(json.messages[1].error, { code: 'AUTHENTICATION_FAILED', message: 'decryption failed' });
  const alone = await ask('GET', `/threads/a/messages/${ids[1]}`);
  t.is(alone.status, 400);
  t.deepEqual(alone.json, { error: { code: 'AUTHENTICATION_FAILED', message: 'decryption failed' } });
});

test('while the key service is away, a write is answered 503 and stores nothing', async (t) => {
  let isAway = false;
  const fail = async () => {
    throw new KmsError('STORE_UNAVAILABLE', 'no answer from /inside/path');
  };
  const { ask, store } = await served(t, {
    kms: (kms) =>
      changed(kms, {
        encryptWithDek: (...given) => (isAway ? fail() : kms.encryptWithDek(...given)),
        encryptMany: (...given) => (isAway ? fail() : kms.encryptMany(...given)),
        decryptMany: (...given) => (isAway ? fail() : kms.decryptMany(...given)),
        createDekForThread: (...given) => (isAway ? fail() : kms.createDekForThread(...given)),
      }),
  });
  await ask('POST', '/threads', { thread_id: 'a' });
  const { json } = await ask('POST', '/threads/a/messages', { body: 'before' });
  // That a key may have been made, of which no answer came, is remembered; nothing of the request is.
  const kept = async () =>
    (await storedText(store))
      .split('\n')
      .filter((line) => !line.startsWith('kms:provision:'))
      .join('\n');
  const before = await kept();
  isAway = true;
  const refused = { error: { code: 'STORE_UNAVAILABLE', message: 'the key store is unavailable' } };
  for (const [method, url, body] of [
    ['POST', '/threads', { thread_id: 'b' }],
    ['POST', '/threads/a/messages', { body: 'lost' }],
    ['PUT', `/threads/a/messages/${json.message_id}`, { body: 'lost' }],
    ['GET', '/threads/a/messages', undefined],
  ] as const) {
    t.deepEqual(await ask(method, url, body), { status: 503, json: refused }, `${method} ${url}`);
  }
  t.is(await kept(), before);
  isAway = false;
  t.is((await ask('POST', '/threads/a/messages', { body: 'after' })).status, 201);
});

test('what is not there is 404, with its own words', async (t) => {
  const { ask } = await served(t);
  await ask('POST', '/threads', { thread_id: 'a' });
  for (const [method, url, message, body] of [
    ['GET', '/threads/b', 'not found: thread b', undefined],
    ['GET', '/threads/b/messages', 'not found: thread b', undefined],
    ['POST', '/threads/b/messages', 'not found: thread b', { body: 1 }],
    ['GET', '/threads/a/messages/m1', 'not found: message m1', undefined],
    ['PUT', '/threads/a/messages/m1', 'not found: message m1', { body: 1 }],
    ['DELETE', '/threads/a/messages/m1', 'not found: message m1', undefined],
    ['GET', '/threads/a/messages/m1/versions', 'not found: message m1', undefined],
    ['DELETE', '/threads/b', 'not found: thread b', undefined],
    ['GET', `/admin/jobs/job_${'0'.repeat(32)}`, `not found: job job_${'0'.repeat(32)}`, undefined],
  ] as const) {
    t.deepEqual(await ask(method, url, body), { status: 404, json: { error: { code: 'NOT_FOUND', message } } }, url);
  }
});
