import { getEventListeners } from 'node:events';
import test from 'ava';
import { connectKms } from '../../dist/client/index.js';
import { type ErrorCode, KmsError } from '../../dist/errors.js';
import { FakeHttp, listener } from './fake-http.js';
import { until } from './fake-server.js';

const KEY = `k_${'0'.repeat(32)}`;
const DATA = Buffer.from('data');
const HEAD = 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n';

async function codeOf(promise: Promise<unknown>): Promise<ErrorCode | 'resolved'> {
  try {
    await promise;
    return 'resolved';
  } catch (error) {
    if (!(error instanceof KmsError)) throw error;
    return error.code;
  }
}

const CUTS: ReadonlyArray<[name: string, said: string]> = [
  ['before a byte of the answer', ''],
  ['within the head', 'HTTP/1.1 200 OK\r\nContent-'],
  ['within the body', `${HEAD}Content-Length: 20\r\n\r\n{"plaintext"`],
  ['within a chunk', `${HEAD}Transfer-Encoding: chunked\r\n\r\nff\r\n{"plaintext":"QQ=="}`],
  ['before the last chunk', `${HEAD}Transfer-Encoding: chunked\r\n\r\n14\r\n{"plaintext":"QQ=="}\r\n`],
];
for (const [name, said] of CUTS) {
  test(`a connection that ends ${name} fails the request, which is not sent again`, async (t) => {
    let requests = 0;
    const { path } = await listener(t, (socket, chunk) => {
      if (chunk.includes('/healthz')) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
      else {
        requests++;
        socket.end(said);
      }
    });
    const kms = await connectKms(`http+unix://${path}`);
    t.teardown(() => kms.close());
    const error = await t.throwsAsync(kms.decrypt(DATA), { instanceOf: KmsError });
    t.is(error?.code, 'STORE_UNAVAILABLE');
    t.regex(error?.message ?? '', /the connection to the key service was lost/);
    t.is(requests, 1);
  });
}

test('an answer without an end is read no further than to its bound', async (t) => {
  const fake = await FakeHttp.on(t);
  const kms = await fake.client(t);
  const chunk = Buffer.alloc(1024 * 1024, 0x20);
  let written = 0;
  fake.onRequest = (response) => {
    const more = () => {
      while (!response.destroyed && response.write(chunk)) written++;
    };
    response.on('drain', more);
    more();
  };
  const error = await t.throwsAsync(kms.decrypt(DATA), { instanceOf: KmsError });
  t.is(error?.code, 'INTERNAL');
  t.regex(error?.message ?? '', /more than \d+ bytes/);
  await until(() => fake.sockets.size === 0);
  t.true(written < 64, `${written} MiB were written`);
});

test('a call whose deadline passes or that is aborted ends, its connection too, and the next one works', async (t) => {
  const fake = await FakeHttp.on(t);
  const kms = await fake.client(t);
  fake.onRequest = () => {};
  t.is(await codeOf(kms.decrypt(DATA, undefined, { deadlineMs: 20 })), 'DEADLINE_EXCEEDED');
  const controller = new AbortController();
  const reason = new Error('because');
  const calls = Array.from({ length: 20 }, () => kms.decrypt(DATA, undefined, { signal: controller.signal }));
  // The call before may have ended before its request came through.
  await until(() => fake.asked.length >= 20);
  t.is(getEventListeners(controller.signal, 'abort').length, 1, 'one for all');
  controller.abort(reason);
  for (const outcome of await Promise.allSettled(calls)) t.is((outcome as PromiseRejectedResult).reason.cause, reason);
  t.is(getEventListeners(controller.signal, 'abort').length, 0);
  await until(() => fake.sockets.size === 0);
  // An answer that stops in its middle is overdue as well.
  fake.onRequest = (response) => response.write('{"plain');
  t.is(await codeOf(kms.decrypt(DATA, undefined, { deadlineMs: 20 })), 'DEADLINE_EXCEEDED');
  fake.onRequest = (response) => response.end('{"plaintext":""}');
  t.is(await codeOf(kms.decrypt(DATA)), 'resolved');
});

test('requests share a bounded number of connections, which are used again', async (t) => {
  const fake = await FakeHttp.on(t);
  const kms = await fake.client(t, { maxSockets: 3 });
  fake.onRequest = (response) => setImmediate(() => response.end('{"plaintext":""}'));
  for (let round = 0; round < 3; round++) await Promise.all(Array.from({ length: 30 }, () => kms.decrypt(DATA)));
  t.is(fake.asked.length, 90);
  t.is(fake.connections, 3);
});

test('more requests, or more bytes of them, than may be under way are refused as BUSY', async (t) => {
  const fake = await FakeHttp.on(t);
  const held: Array<() => void> = [];
  fake.onRequest = (response) => held.push(() => response.end('{"plaintext":""}'));
  const few = await fake.client(t, { maxInFlight: 2 });
  const small = await fake.client(t, { maxQueuedBytes: 200 });
  const first = [few.decrypt(DATA), few.decrypt(DATA)];
  t.is(await codeOf(few.decrypt(DATA)), 'BUSY');
  const large = small.decrypt(Buffer.alloc(1000));
  t.is(await codeOf(small.decrypt(DATA)), 'BUSY');
  await until(() => held.length === 3);
  for (const answer of held.splice(0)) answer();
  for (const call of [...first, large]) t.is(await codeOf(call), 'resolved');
  const after = [few.decrypt(DATA), small.decrypt(DATA)];
  await until(() => held.length === 2);
  for (const answer of held.splice(0)) answer();
  for (const call of after) t.is(await codeOf(call), 'resolved', 'what was under way is given back');
});

test('a batch beyond one body is refused before it is encoded', async (t) => {
  const fake = await FakeHttp.on(t);
  const kms = await fake.client(t);
  const half = Buffer.alloc(10 * 1024 * 1024);
  t.is(await codeOf(kms.encryptMany(KEY, [half, half])), 'TOO_LARGE');
  t.is(fake.asked.length, 0);
});

test('an answer that comes before the request was read frees its connection', async (t) => {
  const answer = '{"error":{"code":"TOO_LARGE","message":"the message is too large"}}';
  const { path, seen } = await listener(t, (socket, chunk) => {
    if (chunk.includes('/healthz')) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
    else if (chunk.includes('/decrypt')) {
      socket.pause();
      socket.write(`HTTP/1.1 413 Too Large\r\nContent-Length: ${answer.length}\r\n\r\n${answer}`);
    }
  });
  const kms = await connectKms({ endpoint: `http+unix://${path}`, maxSockets: 1 });
  t.teardown(() => kms.close());
  for (let round = 0; round < 3; round++) t.is(await codeOf(kms.decrypt(Buffer.alloc(8 * 1024 * 1024))), 'TOO_LARGE');
  t.is(seen.connections, 4 - 1, 'the first one was already there');
});

test('a client that is closed fails what is under way and lets the server go', async (t) => {
  const fake = await FakeHttp.on(t);
  const kms = await fake.client(t);
  fake.onRequest = () => {};
  const call = kms.decrypt(DATA);
  await until(() => fake.asked.length === 1);
  await kms.close();
  t.is(await codeOf(call), 'SEALED');
  t.is(await codeOf(kms.decrypt(DATA)), 'SEALED');
  await until(() => fake.sockets.size === 0);
  t.is(fake.asked.length, 1);
});
