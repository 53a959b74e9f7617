import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { ROUTES } from '../../dist/daemon/http/routes.js';
import { MAX_HTTP_BODY_BYTES, MAX_PLAINTEXT_BYTES } from '../../dist/limits.js';
import { askHttp, codeOf } from './http-peer.js';
import { running } from './running.js';

const OWN = process.geteuid?.() ?? -1;
const OTHER = OWN + 4242;
const NOBODY = { allowedUids: [], adminUids: [], auditorUids: [], unauthenticatedLoopbackRoles: [] };
const HELLO = Buffer.from('hello').toString('base64');

/** A path of the route with something in the place of a key id. */
function pathOf(path: string): string {
  return path.replace(/\{\w+\}/, 'k_1');
}

test('each route is for its role, and others are refused before their body is looked at', async (t) => {
  const roles = {
    client: { ...NOBODY, allowedUids: [OWN], adminUids: [OTHER] },
    auditor: { ...NOBODY, auditorUids: [OWN] },
    admin: { ...NOBODY, adminUids: [OWN] },
  };
  const least: Record<string, string> = {
    'POST /create_dek_for_thread': 'client',
    'GET /get_wrapped': 'admin',
    'POST /encrypt': 'client',
    'POST /decrypt': 'client',
    'POST /rewrap': 'admin',
    'POST /rotate_kek': 'admin',
    'GET /rotation_status': 'auditor',
    'POST /new_database': 'client',
    'GET /objects/owned': 'client',
    'POST /v1/keys': 'client',
    'GET /v1/keys': 'auditor',
    'GET /v1/keys/{key_id}': 'auditor',
    'PUT /v1/keys/{key_id}/state': 'client',
    'POST /v1/encrypt_many': 'client',
    'POST /v1/decrypt_many': 'client',
    'GET /v1/status': 'auditor',
    'POST /v1/seal': 'admin',
    'POST /v1/unseal': 'admin',
    'POST /v1/backup': 'admin',
    'GET /v1/slots': 'admin',
    'POST /v1/slots': 'admin',
    'POST /v1/confirm_slot': 'admin',
    'DELETE /v1/slots/{slot_id}': 'admin',
  };
  t.deepEqual(Object.keys(least).sort(), ROUTES.map(({ method, path }) => `${method} ${path}`).sort());
  for (const [role, access] of Object.entries(roles)) {
    const { daemon } = await running(t, { dev: true }, { access });
    for (const { method, path } of ROUTES) {
      const allowed = role === 'admin' || least[`${method} ${path}`] === role;
      // Whoever is allowed is told that this is no JSON, or no query that it knows.
      const takesQuery = method === 'GET' || method === 'DELETE';
      const body = takesQuery ? undefined : '{';
      const answer = await askHttp(daemon.socket, { method, path: `${pathOf(path)}${takesQuery ? '?a=1&a=2' : ''}`, body });
      t.is(answer.status, allowed ? 400 : 403, `${role}: ${method} ${path}`);
      t.is(codeOf(answer), allowed ? 'INVALID_ARGUMENT' : 'PERMISSION_DENIED');
    }
  }
});

test('a key goes through its whole life under /v1', async (t) => {
  const { daemon } = await running(t);
  const ask = (method: string, path: string, body?: unknown) => askHttp(daemon.socket, { method, path, body });
  const keyId = (await ask('POST', '/v1/keys', { label: 'letters' })).json?.['key_id'] as string;
  const other = (await ask('POST', '/v1/keys')).json?.['key_id'];
  t.not(keyId, other);
  const described = (await ask('GET', `/v1/keys/${keyId}`)).json!;
  t.like(described, { key_id: keyId, thread_id: 'letters', state: 'active', kek_version: '1', uses_reserved: 1024 });
  const listed = (await ask('GET', '/v1/keys?thread_id=letters')).json!;
  t.deepEqual(listed, { keys: [described], next: null });
  const first = (await ask('GET', '/v1/keys?limit=1')).json!;
  const second = (await ask('GET', `/v1/keys?limit=1&cursor=${first['next']}`)).json!;
  const ids = [first, second].flatMap(({ keys }) => (keys as Array<{ key_id: string }>).map((key) => key.key_id));
  t.deepEqual(ids, [keyId, other].sort());

  const state = async (to: string) => ask('PUT', `/v1/keys/${keyId}/state`, { state: to });
  t.is((await state('disabled')).json?.['state'], 'disabled');
  t.is(codeOf(await ask('POST', '/encrypt', { key_id: keyId, plaintext: HELLO })), 'KEY_DISABLED');
  t.is((await state('destroyed')).json?.['state'], 'destroyed');
  const gone = await ask('GET', `/get_wrapped?key_id=${keyId}`);
  t.deepEqual([gone.status, codeOf(gone)], [410, 'KEY_DESTROYED']);
  t.is((await ask('GET', '/v1/status')).json?.['status'], 'ok');
});

test('a batch has a result or an error for each item, in order, under one AAD or one for each', async (t) => {
  const { daemon } = await running(t);
  const ask = async (path: string, body: unknown) => (await askHttp(daemon.socket, { path, body })).json!;
  const { key_id } = await ask('/v1/keys', {});
  const plaintexts = ['a', 'b', 'c'].map((text) => Buffer.from(text).toString('base64'));
  for (const aad of [undefined, HELLO, [HELLO, null, '']]) {
    const { results } = await ask('/v1/encrypt_many', { key_id, plaintexts, aad });
    const ciphertexts = (results as Array<{ ciphertext: string }>).map(({ ciphertext }) => ciphertext);
    const opened = await ask('/v1/decrypt_many', { key_id, ciphertexts, aad });
    t.deepEqual(
      opened['results'],
      plaintexts.map((plaintext) => ({ plaintext })),
    );
    const [, damaged] = (await ask('/v1/decrypt_many', { key_id, ciphertexts: [ciphertexts[0], HELLO], aad: aad && HELLO }))[
      'results'
    ] as unknown[];
    t.deepEqual(damaged, { error: { code: 'AUTHENTICATION_FAILED', message: 'decryption failed' } });
  }
  t.is(
    codeOf(await askHttp(daemon.socket, { path: '/v1/encrypt_many', body: { key_id, plaintexts, aads: [] } })),
    'INVALID_ARGUMENT',
  );
});

test('without a key id it is the default key, which the ciphertext names', async (t) => {
  const { daemon } = await running(t);
  const { ciphertext } = (await askHttp(daemon.socket, { path: '/encrypt', body: { plaintext: HELLO } })).json!;
  t.is(Buffer.from(ciphertext as string, 'base64')[0], 1);
  const opened = await askHttp(daemon.socket, { path: '/decrypt', body: { ciphertext } });
  t.deepEqual(opened.json, { plaintext: HELLO });
});

test('the largest plaintext comes back, and one byte more is refused', async (t) => {
  const { daemon } = await running(t);
  const plaintext = Buffer.alloc(MAX_PLAINTEXT_BYTES, 'x').toString('base64');
  const { ciphertext } = (await askHttp(daemon.socket, { path: '/encrypt', body: { plaintext } })).json!;
  t.deepEqual((await askHttp(daemon.socket, { path: '/decrypt', body: { ciphertext } })).json, { plaintext });
  const longer = Buffer.alloc(MAX_PLAINTEXT_BYTES + 1, 'x').toString('base64');
  t.is((await askHttp(daemon.socket, { path: '/encrypt', body: { plaintext: longer } })).status, 413);
});

test('what is wrong with a request has its own status, and the answer names neither content nor inside', async (t) => {
  const { daemon } = await running(t);
  const secret = 'very-secret-content';
  const cases: Array<[status: number, ask: Parameters<typeof askHttp>[1]]> = [
    [400, { path: '/encrypt', body: `{"plaintext": "${secret}` }],
    [400, { path: '/encrypt', body: `["${secret}"]` }],
    [400, { path: '/encrypt', body: { plaintext: secret } }],
    [400, { path: '/encrypt', body: { plaintext: HELLO, key_id: secret } }],
    [400, { path: '/create_dek_for_thread', body: { thread_id: `${secret} with a space` } }],
    [400, { path: '/v1/encrypt_many', body: { key_id: 'k_1', plaintexts: [HELLO], [secret]: 1 } }],
    [400, { path: `/v1/keys?limit=${secret}` }],
    [404, { path: `/${secret}` }],
    [404, { path: '/v1/encrypt', body: {} }],
    [404, { path: '/v1/keys/k_1' }],
    [405, { method: 'DELETE', path: '/encrypt' }],
    [405, { method: 'GET', path: '/v1/keys/k_1/state' }],
    [405, { method: 'POST', path: '/healthz', body: {} }],
  ];
  for (const [status, ask] of cases) {
    const answer = await askHttp(daemon.socket, ask);
    t.is(answer.status, status, JSON.stringify(ask));
    t.false(answer.text.includes(secret), answer.text);
    t.regex(answer.text, /^\{"error":\{"code":"[A-Z_]+","message":"[^"]{1,120}"\}\}$/);
    t.is(answer.headers.allow !== undefined, status === 405);
  }
});

test('a request that a browser sends is refused, whatever it asks', async (t) => {
  const { daemon } = await running(t);
  for (const headers of [{ origin: 'null' }, { 'sec-fetch-site': 'same-origin' }, { 'sec-fetch-mode': 'no-cors' }]) {
    for (const path of ['/healthz', '/v1/status', '/openapi.json', '/nowhere']) {
      t.is((await askHttp(daemon.socket, { path, headers: headers as Record<string, string> })).status, 403, path);
    }
  }
});

test('a request id comes back if it is one, and otherwise the answer has a fresh one', async (t) => {
  const { daemon } = await running(t);
  const idFor = async (id: string) =>
    (await askHttp(daemon.socket, { path: '/healthz', headers: { 'x-request-id': id } })).headers['x-request-id'];
  t.is(await idFor('a.b-c_1'), 'a.b-c_1');
  for (const id of ['a b', 'x'.repeat(65), '"']) t.regex((await idFor(id)) as string, /^[0-9a-f-]{36}$/);
});

test('a body that is announced too long is refused before any of it is sent', async (t) => {
  const { daemon } = await running(t);
  const headers = { 'content-length': 100 * 1024 * 1024 };
  const asked = request({ socketPath: daemon.socket, method: 'POST', path: '/encrypt', headers, agent: false });
  asked.on('error', () => {});
  asked.flushHeaders();
  const [response] = await once(asked, 'response');
  t.is(response.statusCode, 413);
  asked.destroy();
});

test('a body of unknown length is refused once it is too long, and nothing of it stays', async (t) => {
  const { daemon } = await running(t);
  const asked = request({ socketPath: daemon.socket, method: 'POST', path: '/encrypt', agent: false });
  asked.on('error', () => {});
  const answered = once(asked, 'response');
  const piece = Buffer.alloc(1024 * 1024, ' ');
  for (let sent = 0; sent <= MAX_HTTP_BODY_BYTES; sent += piece.length) asked.write(piece);
  const [response] = await answered;
  t.is(response.statusCode, 413);
  asked.destroy();
  t.is((await askHttp(daemon.socket, { path: '/healthz' })).status, 200);
});

test('whoever waits to be asked for its body is refused without it, or asked', async (t) => {
  const { daemon } = await running(t, { dev: true }, { access: { ...NOBODY, allowedUids: [OWN], adminUids: [OTHER] } });
  const body = JSON.stringify({ plaintext: HELLO });
  const send = async (path: string) => {
    const headers = { expect: '100-continue', 'content-length': body.length };
    const asked = request({ socketPath: daemon.socket, method: 'POST', path, headers, agent: false });
    let wasAsked = false;
    asked.on('continue', () => {
      wasAsked = true;
      asked.end(body);
    });
    asked.on('error', () => {});
    asked.flushHeaders();
    const [response] = await once(asked, 'response');
    asked.destroy();
    return [response.statusCode, wasAsked];
  };
  t.deepEqual(await send('/encrypt'), [200, true]);
  t.deepEqual(await send('/v1/seal'), [403, false]);
});

test('answers to pipelined requests come in order, and the connection stays', async (t) => {
  const { daemon } = await running(t);
  const socket = connect(daemon.socket);
  let text = '';
  socket.on('data', (bytes) => (text += bytes));
  const ids = Array.from({ length: 50 }, (_, index) => `id-${index}`);
  for (const id of ids)
    socket.write(`GET /${id === 'id-7' ? 'nowhere' : 'healthz'} HTTP/1.1\r\nHost: unix\r\nX-Request-Id: ${id}\r\n\r\n`);
  while (!text.includes('id-49')) await delay(5);
  t.deepEqual(
    [...text.matchAll(/x-request-id: (\S+)/gi)].map(([, id]) => id),
    ids,
  );
  t.false(socket.destroyed);
  socket.destroy();
});

test('headers or a body that do not come end the connection, and what is no HTTP is told so', async (t) => {
  const timeouts = { firstByteMs: 60_000, frameMs: 300, writeStallMs: 60_000 };
  const { daemon } = await running(t, { dev: true }, { timeouts });
  const patient = (await running(t)).daemon;
  const heard = async (bytes: string, { socket: path } = patient) => {
    const socket = connect(path);
    let text = '';
    socket.on('data', (part) => (text += part));
    socket.on('error', () => {});
    socket.write(bytes);
    await once(socket, 'close');
    return text.slice(0, 12);
  };
  t.is(await heard('GET /healthz HTTP/1.1\r\nHost: un', daemon), 'HTTP/1.1 408');
  t.is(await heard('POST /encrypt HTTP/1.1\r\nHost: unix\r\nContent-Length: 10\r\n\r\n{', daemon), 'HTTP/1.1 408');
  t.is(await heard('NONSENSE\r\n\r\n'), 'HTTP/1.1 400');
  t.is(await heard(`GET / HTTP/1.1\r\nHost: unix\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`), 'HTTP/1.1 431');
  t.is(
    await heard('POST /encrypt HTTP/1.1\r\nHost: unix\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n'),
    'HTTP/1.1 400',
  );
});

test('a peer that does not read its answers is dropped', async (t) => {
  const timeouts = { firstByteMs: 5_000, frameMs: 30_000, writeStallMs: 1_000 };
  const { daemon } = await running(t, { dev: true }, { timeouts });
  const { key_id } = (await askHttp(daemon.socket, { path: '/v1/keys', body: {} })).json!;
  const socket = connect(daemon.socket);
  socket.on('error', () => {});
  const body = JSON.stringify({ key_id, plaintext: Buffer.alloc(1024 * 1024).toString('base64') });
  for (let sent = 0; sent < 4; sent++) {
    socket.write(`POST /encrypt HTTP/1.1\r\nHost: unix\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
  }
  await once(socket.pause(), 'connect');
  while (!socket.destroyed) {
    await delay(50);
    socket.write('\r\n');
  }
  t.is((await askHttp(daemon.socket, { path: '/healthz' })).status, 200);
});

test('a stop answers the requests under way and closes the idle connections', async (t) => {
  const { daemon } = await running(t);
  const idle = connect(daemon.socket);
  idle.write('GET /healthz HTTP/1.1\r\nHost: unix\r\n\r\n');
  await once(idle, 'data');
  // It may be gone before the answer is here.
  const gone = once(idle.resume(), 'close');
  const underWay = new Promise<void>((resolve) => {
    const createDek = daemon.kms.createDek.bind(daemon.kms);
    daemon.kms.createDek = (...args) => {
      resolve();
      return createDek(...args);
    };
  });
  const busy = askHttp(daemon.socket, { path: '/v1/keys', body: {} });
  await underWay;
  const stopped = daemon.stop();
  t.is((await busy).status, 200);
  await Promise.all([gone, stopped]);
  t.pass();
});

// Alone, because it counts the descriptors of the whole process.
test.serial('a thousand HTTP connections leave no descriptor behind', async (t) => {
  const { daemon } = await running(t);
  await askHttp(daemon.socket, { path: '/healthz' });
  const open = () => (process.platform === 'linux' ? readdirSync('/proc/self/fd').length : 0);
  const before = open();
  for (let round = 0; round < 100; round++) {
    await Promise.all(Array.from({ length: 10 }, () => askHttp(daemon.socket, { path: '/healthz' })));
  }
  for (let look = 0; look < 3_000 && open() > before + 2; look++) await delay(20);
  t.true(open() <= before + 2, `${before} before, ${open()} after`);
});
