import test, { type ExecutionContext } from 'ava';
import { GoClient } from './go-client.js';
import { running } from './running.js';

const HELLO = Buffer.from('hello progressdb').toString('base64');
const AAD = Buffer.from('thread/1').toString('base64');

const WAYS = ['a Unix socket', 'TCP'] as const;
type Way = (typeof WAYS)[number];

async function connected(t: ExecutionContext, way: Way, options: { prefix?: string } = {}) {
  const { daemon } = await running(t, { dev: true }, { endpoints: [{ host: '127.0.0.1', port: 0 }] });
  const to = way === 'TCP' ? { host: '127.0.0.1', port: daemon.ports[0]! } : daemon.socket;
  const client = await GoClient.connect(to, options);
  t.teardown(() => client.close());
  const members = (body: string) => JSON.parse(body) as Record<string, string>;
  const create = async () => members((await client.post('/create_dek_for_thread', { thread_id: 'thread-1' })).body);
  return { client, daemon, members, create };
}

for (const way of WAYS) {
  test(`${way}: the Go client finds the daemon healthy`, async (t) => {
    const { client } = await connected(t, way);
    for (const path of ['/healthz', '/health']) t.deepEqual(await client.get(path), { status: 200, body: 'ok' });
  });

  test(`${way}: the Go client gets no 200 of health from a daemon that is sealed`, async (t) => {
    const { client, daemon } = await connected(t, way);
    await daemon.kms.seal();
    for (const path of ['/healthz', '/health', '/readyz']) t.is((await client.get(path)).status, 503, path);
  });

  test(`${way}: the Go client gets every member of a new key, with the key version as text`, async (t) => {
    const { create } = await connected(t, way);
    const key = await create();
    t.deepEqual(Object.keys(key).sort(), ['kek_id', 'kek_version', 'key_id', 'wrapped']);
    t.regex(key['key_id']!, /^k_[0-9a-f]{32}$/);
    t.is(Buffer.from(key['wrapped']!, 'base64').length, 60);
    t.is(key['kek_version'], '1');
  });

  test(`${way}: what the Go client encrypts it decrypts, with its AAD and only with it`, async (t) => {
    const { client, members, create } = await connected(t, way);
    const { key_id } = await create();
    for (const aad of [{}, { aad: AAD }]) {
      const sealed = await client.post('/encrypt', { key_id, plaintext: HELLO, ...aad });
      t.is(sealed.status, 200);
      const { ciphertext, key_version } = members(sealed.body);
      t.is(Buffer.from(ciphertext!, 'base64').length, 12 + 16 + 16);
      t.is(key_version, '1');
      const opened = await client.post('/decrypt', { key_id, ciphertext, ...aad });
      t.deepEqual(opened, { status: 200, body: JSON.stringify({ plaintext: HELLO }) });
      const other = 'aad' in aad ? {} : { aad: AAD };
      t.is((await client.post('/decrypt', { key_id, ciphertext, ...other })).status, 400, 'an AAD is never dropped');
    }
  });

  test(`${way}: the Go client gets the wrapped key by its unescaped id`, async (t) => {
    const { client, create } = await connected(t, way);
    const { key_id, wrapped } = await create();
    t.deepEqual(await client.get(`/get_wrapped?key_id=${key_id}`), { status: 200, body: JSON.stringify({ wrapped }) });
  });

  test(`${way}: the Go client rewraps a key under a KEK of its own, and gets every member`, async (t) => {
    const { client, members, create } = await connected(t, way);
    const { key_id } = await create();
    const sealed = members((await client.post('/encrypt', { key_id, plaintext: HELLO })).body);
    const answer = await client.post('/rewrap', { key_id, new_kek_hex: '0123456789abcdef'.repeat(4) });
    t.is(answer.status, 200, answer.body);
    const rewrapped = members(answer.body);
    t.deepEqual(Object.keys(rewrapped), ['status', 'key_id', 'wrapped', 'kek_id', 'kek_version']);
    t.like(rewrapped, { status: 'ok', key_id, kek_version: '1' });
    t.is(members((await client.get(`/get_wrapped?key_id=${key_id}`)).body)['wrapped'], rewrapped['wrapped']);
    t.is(members((await client.post('/decrypt', { key_id, ciphertext: sealed['ciphertext'] })).body)['plaintext'], HELLO);
    t.is((await client.post('/rewrap', { key_id: 'k_1', new_kek_hex: '0123456789abcdef'.repeat(4) })).status, 404);
    for (const new_kek_hex of ['0123', 7, 'g'.repeat(64)])
      t.is((await client.post('/rewrap', { key_id, new_kek_hex })).status, 400, `${new_kek_hex}`);
  });

  test(`${way}: the Go client rotates the KEK, and its answer says ok`, async (t) => {
    const { client, members, create } = await connected(t, way);
    const { key_id } = await create();
    const sealed = members((await client.post('/encrypt', { key_id, plaintext: HELLO })).body);
    const answer = await client.post('/rotate_kek', { new_kek_hex: 'fedcba9876543210'.repeat(4) });
    t.is(answer.status, 200, answer.body);
    t.is(members(answer.body)['status'], 'ok');
    t.is(members((await client.post('/decrypt', { key_id, ciphertext: sealed['ciphertext'] })).body)['plaintext'], HELLO);
    t.is((await create())['kek_version'], '2');
    t.is((await client.post('/rotate_kek', { new_kek_hex: 'fedc' })).status, 400);
  });

  test(`${way}: the Go client gets 404 for a key that is unknown, and 400 for what is malformed`, async (t) => {
    const { client, create } = await connected(t, way);
    const { key_id } = await create();
    const unknown = 'k_1700000000000000000';
    t.is((await client.post('/encrypt', { key_id: unknown, plaintext: HELLO })).status, 404);
    t.is((await client.post('/decrypt', { key_id: unknown, ciphertext: HELLO })).status, 404);
    t.is((await client.get(`/get_wrapped?key_id=${unknown}`)).status, 404);
    for (const plaintext of ['not base64!', 'aGVsbG8', 'aGVsbG8=\n', '_-8=', 'aGVsbG9=', 7, null, undefined]) {
      t.is((await client.post('/encrypt', { key_id, plaintext })).status, 400, `${plaintext} is not encrypted as literal text`);
    }
    t.is((await client.post('/create_dek_for_thread', { thread_id: 5 })).status, 400);
    t.is((await client.post('/create_dek_for_thread', {})).status, 400);
  });

  test(`${way}: members that the Go server may add one day are ignored on the old endpoints`, async (t) => {
    const { client, create } = await connected(t, way);
    const { key_id } = await create();
    t.is((await client.post('/encrypt', { key_id, plaintext: HELLO, zeal: 1 })).status, 200);
  });

  test(`${way}: the Go client may put a path prefix before every endpoint`, async (t) => {
    const { client, create } = await connected(t, way, { prefix: '/tenants/a-1' });
    const { key_id } = await create();
    t.is((await client.get('/healthz')).status, 200);
    t.is((await client.post('/encrypt', { key_id, plaintext: HELLO })).status, 200);
    t.is((await client.get(`/get_wrapped?key_id=${key_id}`)).status, 200);
  });

  test(`${way}: an error that may reach an end user is short and tells nothing of the inside`, async (t) => {
    const { client, daemon } = await connected(t, way);
    await daemon.kms.seal();
    const { status, body } = await client.post('/create_dek_for_thread', { thread_id: 'thread-1' });
    t.is(status, 503);
    t.is(body, '{"error":{"code":"SEALED","message":"the key service is sealed"}}');
  });
}
