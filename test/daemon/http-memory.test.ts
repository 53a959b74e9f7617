import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { HeldBytes } from '../../dist/daemon/buffers.js';
import { base64List, batchAad } from '../../dist/daemon/http/members.js';
import { Share } from '../../dist/daemon/http/share.js';
import { MAX_BATCH_ITEMS, MAX_HELD_BYTES, MAX_HTTP_IN_FLIGHT } from '../../dist/limits.js';
import { askHttp } from './http-peer.js';
import { running } from './running.js';

test('a body of more parts than any batch has is refused before it is parsed', async (t) => {
  const { daemon } = await running(t);
  for (const part of ['[],', '{},', '0,', '"",']) {
    const body = `{"plaintext":[${part.repeat(3 * MAX_BATCH_ITEMS)}0]}`;
    const { status, text } = await askHttp(daemon.socket, { path: '/encrypt', body });
    t.is(status, 400, part);
    t.regex(text, /too many parts/, part);
  }
});

test('the largest batch with an AAD for each item is not too many parts', async (t) => {
  const { daemon } = await running(t);
  const { key_id } = (await askHttp(daemon.socket, { path: '/v1/keys', body: {} })).json!;
  const plaintexts = new Array(MAX_BATCH_ITEMS).fill('eA==');
  const aad = new Array(MAX_BATCH_ITEMS).fill('YQ==');
  const { status, json } = await askHttp(daemon.socket, { path: '/v1/encrypt_many', body: { key_id, plaintexts, aad } });
  t.is(status, 200);
  t.is((json!['results'] as unknown[]).length, MAX_BATCH_ITEMS);
});

test('what requests held is given back when they are through, refused ones too', async (t) => {
  const { daemon } = await running(t);
  const plaintext = Buffer.alloc(6 * 1024 * 1024).toString('base64');
  const rounds = Math.ceil((1.5 * MAX_HELD_BYTES) / plaintext.length);
  for (let round = 0; round < rounds; round++) {
    const isWrong = round % 3 === 0;
    const body = JSON.stringify({ plaintext }) + (isWrong ? '}' : '');
    t.is((await askHttp(daemon.socket, { path: '/encrypt', body })).status, isWrong ? 400 : 200);
  }
});

test('who pipelines and does not read is answered in full for as many requests as may be under way', async (t) => {
  const { daemon } = await running(t);
  const socket = connect(daemon.socket);
  t.teardown(() => socket.destroy());
  const asked = 500;
  socket.write('GET /openapi.json HTTP/1.1\r\nHost: unix\r\n\r\n'.repeat(asked));
  // Long enough for the daemon to have taken all of it, while nothing is read.
  await once(socket, 'connect');
  t.is((await askHttp(daemon.socket, { path: '/healthz' })).status, 200);
  let text = '';
  socket.on('data', (bytes) => (text += bytes));
  while ((text.match(/HTTP\/1\.1 /g) ?? []).length < asked) await delay(20);
  const full = (text.match(/HTTP\/1\.1 200/g) ?? []).length;
  const told = (text.match(/HTTP\/1\.1 429/g) ?? []).length;
  t.is(full + told, asked);
  t.true(told > 0 && full >= MAX_HTTP_IN_FLIGHT, `${full} in full, ${told} told to wait`);
});

test('a body in chunks of one byte is counted for what it takes up', async (t) => {
  // A slow machine takes long for so many.
  const timeouts = { firstByteMs: 200_000, frameMs: 200_000, writeStallMs: 200_000 };
  const { daemon } = await running(t, { dev: true }, { timeouts });
  const socket = connect(daemon.socket);
  t.teardown(() => socket.destroy());
  let text = '';
  socket.on('data', (bytes) => (text += bytes));
  socket.on('error', () => {});
  socket.write('POST /encrypt HTTP/1.1\r\nHost: unix\r\nTransfer-Encoding: chunked\r\n\r\n');
  const pieces = Buffer.from('1\r\n \r\n'.repeat(10_000));
  for (let sent = 0; sent * 10_000 * 512 < 2 * MAX_HELD_BYTES && text === ''; sent++) {
    if (!socket.write(pieces)) await delay(1);
  }
  while (text === '') await delay(20);
  t.regex(text, /^HTTP\/1\.1 429/);
});

test('a batch of too many items is refused before one is decoded', (t) => {
  const items = new Array(MAX_BATCH_ITEMS + 1).fill('not base64');
  for (const member of [base64List('plaintexts'), batchAad('aad')]) {
    t.throws(() => member.read(items), { message: /more than 65536 items/ });
  }
});

test('a share takes no more than all connections together may hold, and gives back what it took', (t) => {
  const held = new HeldBytes();
  const [one, other] = [new Share(held), new Share(held)];
  one.take(MAX_HELD_BYTES - 10);
  t.throws(() => other.take(11), { message: /too much at once/ });
  other.take(10);
  t.throws(() => one.take(1), { message: /too much at once/ });
  one.give();
  one.give();
  other.take(MAX_HELD_BYTES - 10);
  other.give();
  // The client is gone: what its answer would take is nobody's to give back.
  one.take(MAX_HELD_BYTES);
  t.true(held.take(MAX_HELD_BYTES));
});
