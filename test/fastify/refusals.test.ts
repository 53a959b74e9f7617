import test from 'ava';
import Fastify from 'fastify';
import type { EmbeddedKms } from '../../dist/create.js';
import { KmsError } from '../../dist/errors.js';
import { threadsPlugin } from '../../dist/fastify/index.js';
import { MAX_MESSAGE_BODY_BYTES, MAX_THREAD_LIST_BODY_BYTES } from '../../dist/limits.js';
import { changed, served, storedText } from './served.js';

const BAD: Array<[method: string, url: string, body: unknown, message: RegExp]> = [
  ['POST', '/threads', [], /expected object/],
  ['POST', '/threads', { title: 3 }, /title: expected string/],
  ['POST', '/threads', { thread_id: 'no space' }, /thread_id: is no thread id/],
  ['POST', '/threads', { thread_id: 'a'.repeat(257) }, /thread_id/],
  ['POST', '/threads', { name: 'x' }, /name/],
  ['POST', '/threads', { title: 'x'.repeat(1_025) }, /title/],
  ['POST', '/threads/a/messages', {}, /body: is required/],
  ['POST', '/threads/a/messages', { body: 1, autor: 'x' }, /autor/],
  ['POST', '/threads/a/messages', { body: 1, author: 'x'.repeat(257) }, /author/],
  ['PUT', '/threads/a/messages/m', { body: 1, author: 'x' }, /author/],
  ['GET', '/threads/a/messages?limit=0', undefined, /limit/],
  ['GET', '/threads/a/messages?limit=1001', undefined, /limit/],
  ['GET', '/threads/a/messages?limit=x', undefined, /limit/],
  ['GET', '/threads/a/messages?reverse=1', undefined, /reverse/],
  ['GET', '/threads/a/messages?cursor=x', undefined, /cursor/],
  ['GET', '/threads/a/messages?order=asc', undefined, /order/],
  ['GET', '/threads/a/messages/m%20m', undefined, /message id/],
  ['GET', '/threads/no%20space', undefined, /thread id/],
  ['DELETE', '/threads/a', { yes: true }, /yes/],
  ['DELETE', '/threads/a/messages/m', { yes: true }, /yes/],
  ['GET', '/admin/threads?limit=0', undefined, /limit/],
  ['POST', '/admin/rotate_thread_dek', {}, /thread_id/],
  ['POST', '/admin/rotate_thread_dek', { thread_id: 'a', all: true }, /all/],
  ['POST', '/admin/rotate_thread_dek', { thread_id: 'a', concurrency: 17 }, /concurrency/],
  ['POST', '/admin/rotate_thread_dek', { thread_id: 'a', keep_backups_ms: -1 }, /keep_backups_ms/],
  ['POST', '/admin/encryption/rewrap-deks', {}, /either thread_ids, or all/],
  ['POST', '/admin/encryption/rewrap-deks', { thread_ids: ['a'], all: true }, /either thread_ids, or all/],
  ['POST', '/admin/encryption/rewrap-deks', { all: true, parallelism: 17 }, /parallelism/],
  ['POST', '/admin/encryption/rewrap-deks', { thread_ids: [] }, /thread_ids/],
  ['POST', '/admin/encryption/encrypt-existing', { all: false }, /either thread_ids, or all/],
  ['POST', '/admin/encryption/encrypt-existing', { thread_ids: Array(65).fill('a') }, /thread_ids/],
  ['GET', '/admin/jobs/x', undefined, /a job id is job_ and 32 hexadecimal digits/],
  ['POST', '/admin/jobs/x/pause', { now: true }, /now/],
];

test('a request that is not as it must be is refused with what is wrong, and stores nothing', async (t) => {
  const { ask, store } = await served(t);
  await ask('POST', '/threads', { thread_id: 'a' });
  const before = await storedText(store);
  for (const [method, url, body, message] of BAD) {
    const { status, json } = await ask(method, url, body);
    t.is(status, 400, `${method} ${url} ${JSON.stringify(body)}`);
    t.deepEqual(Object.keys(json), ['error']);
    t.is(json.error.code, 'INVALID_ARGUMENT');
    t.regex(json.error.message, message);
  }
  t.is(await storedText(store), before);
});

test('what is no JSON, of another type, or no UTF-8 is refused, and not quoted', async (t) => {
  const { app, ask } = await served(t);
  await ask('POST', '/threads', { thread_id: 'a' });
  for (const [payload, type] of [
    ['{"body": secret', 'application/json'],
    ['{"body":"secret"}', 'text/plain'],
    ['body=secret', 'application/x-www-form-urlencoded'],
    [Buffer.from('{"body":"secret\xff"}', 'latin1'), 'application/json'],
    ['', 'application/json'],
  ] as const) {
    const headers = { 'content-type': type };
    const answer = await app.inject({ method: 'POST', url: '/threads/a/messages', payload, headers });
    t.is(answer.statusCode, 400, type);
    t.is(answer.json().error.code, 'INVALID_ARGUMENT');
    t.false(answer.body.includes('secret'));
  }
});

test('a body that is too long is refused as such', async (t) => {
  const { ask, threads } = await served(t);
  await ask('POST', '/threads', { thread_id: 'a' });
  const tooLarge = { status: 413, json: { error: { code: 'TOO_LARGE', message: 'the message is too large: the body' } } };
  const room = MAX_MESSAGE_BODY_BYTES - '{"body":""}'.length;
  t.deepEqual(await ask('POST', '/threads/a/messages', { body: 'x'.repeat(room + 1) }), tooLarge);
  t.is((await ask('POST', '/threads/a/messages', { body: 'x'.repeat(room) })).status, 201, 'the longest is taken');
  const names = { thread_id: 'x'.repeat(MAX_THREAD_LIST_BODY_BYTES) };
  t.deepEqual(await ask('POST', '/admin/rotate_thread_dek', names), tooLarge);
  t.is((await threads.list('a')).messages.length, 1);
});

const ADMINS_ONLY: Array<[method: string, url: string, action: string]> = [
  ['GET', '/admin/threads', 'list_threads'],
  ['DELETE', '/threads/a', 'purge_thread'],
  ['POST', '/admin/rotate_thread_dek', 'rotate_thread_dek'],
  ['POST', '/admin/encryption/rotate-thread-dek', 'rotate_thread_dek'],
  ['POST', '/admin/encryption/rewrap-deks', 'rewrap_deks'],
  ['POST', '/admin/encryption/encrypt-existing', 'encrypt_existing'],
  ['POST', '/admin/encryption/compact', 'encrypt_existing'],
  ['GET', '/admin/jobs', 'read_jobs'],
  ['GET', '/admin/jobs/job_1', 'read_jobs'],
  ['POST', '/admin/jobs/job_1/pause', 'change_job'],
  ['POST', '/admin/jobs/job_1/resume', 'change_job'],
  ['POST', '/admin/jobs/job_1/cancel', 'change_job'],
  ['POST', '/admin/jobs/job_1/restore-backup', 'restore_backup'],
];

test('endpoints of administrators ask for leave, before anything else is looked at', async (t) => {
  const asked: string[] = [];
  let answer: () => unknown = () => false;
  const { ask, store } = await served(t, {
    authorize: (_request, action) => {
      asked.push(action);
      return answer() as boolean;
    },
  });
  await ask('POST', '/threads', { thread_id: 'a' });
  const before = await storedText(store);
  for (const no of [false, undefined, 1, 'yes']) {
    answer = () => no;
    for (const [method, url, action] of ADMINS_ONLY) {
      const refused = await ask(method, url, method === 'POST' ? { nonsense: 1 } : undefined);
      t.is(refused.status, 403, `${method} ${url}`);
      t.deepEqual(refused.json, { error: { code: 'PERMISSION_DENIED', message: 'permission denied' } });
      t.is(asked.pop(), action);
    }
  }
  answer = () => {
    throw new KmsError('UNAUTHENTICATED');
  };
  t.is((await ask('GET', '/admin/jobs')).status, 401);
  answer = () => {
    throw new Error('inside');
  };
  t.deepEqual(await ask('GET', '/admin/jobs'), {
    status: 500,
    json: { error: { code: 'INTERNAL', message: 'internal error' } },
  });
  t.is(await storedText(store), before);
});

test('no route of administrators is left out above, and the others ask another', async (t) => {
  const app = Fastify({ routerOptions: { maxParamLength: 256 } });
  const routes: string[] = [];
  app.addHook('onRoute', ({ method, url }) => {
    if (method !== 'HEAD') routes.push(`${method} ${url}`);
  });
  const { threads } = await served(t);
  await app.register(threadsPlugin, { threads, authorize: () => true });
  const named = ADMINS_ONLY.map(([method, url]) => `${method} ${url.replace('job_1', ':job_id').replace(/\/a$/, '/:thread_id')}`);
  const others = [
    ...['POST /threads', 'GET /threads/:thread_id', 'POST /threads/:thread_id/messages', 'GET /threads/:thread_id/messages'],
    ...['GET', 'PUT', 'DELETE'].map((method) => `${method} /threads/:thread_id/messages/:message_id`),
    'GET /threads/:thread_id/messages/:message_id/versions',
  ];
  t.deepEqual(routes.sort(), [...named, ...others].sort());
});

test('the hook of the other endpoints knows the action and the body', async (t) => {
  const asked: unknown[] = [];
  const { ask, threads } = await served(t, {
    authorizeThread: ({ params, body }, action) => {
      asked.push([action, params, body]);
      return action !== 'append_message' && (body as { thread_id?: string } | undefined)?.thread_id !== 'b';
    },
  });
  t.is((await ask('POST', '/threads', { thread_id: 'a' })).status, 201);
  t.is((await ask('POST', '/threads', { thread_id: 'b' })).status, 403);
  t.is((await ask('POST', '/threads/a/messages', { body: 'x' })).status, 403);
  t.deepEqual((await ask('GET', '/threads/a/messages')).json, { messages: [], next: null });
  t.deepEqual(asked, [
    ['create_thread', {}, { thread_id: 'a' }],
    ['create_thread', {}, { thread_id: 'b' }],
    ['append_message', { thread_id: 'a' }, { body: 'x' }],
    ['read_messages', { thread_id: 'a' }, undefined],
  ]);
  t.is(await threads.thread('b'), undefined);
});

test('the plugin is not registered without what it needs, and says what that is', async (t) => {
  const { threads } = await served(t);
  const registered = async (options: object, server: object = { routerOptions: { maxParamLength: 256 } }) => {
    const app = Fastify(server);
    await app.register(threadsPlugin, options as never);
    await app.close();
  };
  await t.throwsAsync(registered({ threads }), { message: /threadsPlugin needs `authorize\(request, action\)`/ });
  await t.throwsAsync(registered({ authorize: () => true }), { message: /threadsPlugin needs `threads`/ });
  await t.throwsAsync(registered({ threads, authorize: () => true, authorizeThread: 1 }), { message: /authorizeThread/ });
  await t.throwsAsync(registered({ threads, authorize: () => true }, {}), { message: /maxParamLength: 256/ });
  await t.notThrowsAsync(registered({ threads, authorize: () => true }));
});

test('under a prefix, beside other routes, an application keeps its own ways', async (t) => {
  const { threads } = await served(t);
  const app = Fastify({ routerOptions: { maxParamLength: 256 } });
  app.post('/own', async () => {
    throw new Error('mine');
  });
  await app.register(threadsPlugin, { threads, authorize: () => false, prefix: '/v2' });
  t.is((await app.inject('/v2/admin/jobs')).statusCode, 403);
  const own = await app.inject({ method: 'POST', url: '/own', payload: 'x', headers: { 'content-type': 'text/plain' } });
  t.is(own.json().message, 'mine');
});

test('a body with more values to encrypt than a message can have is refused before they are', async (t) => {
  let asked = 0;
  const kms = (own: EmbeddedKms) =>
    changed(own, {
      encryptMany: (...args) => {
        asked += 1;
        return own.encryptMany(...args);
      },
    });
  const { ask } = await served(t, { kms, fields: ['body.*'] });
  await ask('POST', '/threads', { thread_id: 't' });
  const { status, json } = await ask('POST', '/threads/t/messages', { body: Array(125_830).fill(1) });
  t.is(status, 413);
  t.is(json.error.code, 'TOO_LARGE');
  t.is(asked, 0);
});
