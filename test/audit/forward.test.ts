import { spawn } from 'node:child_process';
import { hostname } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { Forwarder, openForwarder } from '../../dist/audit/forward/forwarder.js';
import { Forwarders } from '../../dist/audit/forward/forwarders.js';
import { openSink } from '../../dist/audit/forward/open-sink.js';
import { LineQueue } from '../../dist/audit/forward/queue.js';
import type { Sink } from '../../dist/audit/forward/sink.js';
import { syslogMessage } from '../../dist/audit/forward/syslog-message.js';
import { FORWARD_BATCH_BYTES, FORWARD_QUEUE_BYTES, FORWARD_QUEUE_LINES } from '../../dist/limits.js';
import { Authority } from '../daemon/authority.js';
import { freePort } from '../free-port.js';
import { newFolder, openHttp, StreamReceiver } from './receiver.js';
import { typicalLog } from './written.js';

const log = typicalLog(60);
const lines = log.lines.map((line) => line.toString('latin1'));
const bodyOf = (messages: string[]) => messages.map((message) => message.slice(message.indexOf('{')));

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((wake) => setTimeout(wake, 10));
}

/** What the other end of a local connection did has been seen: by turns of the event loop, which a process that was stopped has not had. */
async function noticed(): Promise<void> {
  await new Promise((wake) => setTimeout(wake, 50));
  for (let turn = 0; turn < 20; turn += 1) await new Promise((wake) => setImmediate(wake));
}

test('a line becomes one message of RFC 5424, whose text is the line', (t) => {
  const denied = log.lines.find((line) => String(line).includes('"denied"')) as Buffer;
  const { time } = JSON.parse(String(denied)).event;
  t.deepEqual(
    syslogMessage(denied),
    Buffer.concat([Buffer.from(`<108>1 ${time} ${hostname()} progressdb-kms ${process.pid} denied - `), denied]),
  );
  t.regex(
    String(syslogMessage(log.lines[0] as Buffer)),
    /^<110>1 2026-01-31T12:00:00\.000Z \S+ progressdb-kms \d+ start - \{"event"/,
  );
  t.regex(String(syslogMessage(Buffer.from('x'))), /^<110>1 - \S+ progressdb-kms \d+ - - x$/);
});

test('over TCP each message comes after its length, and all of them in order', async (t) => {
  const receiver = await StreamReceiver.open({});
  t.teardown(() => receiver.close());
  const target = { kind: 'tcp' as const, host: '127.0.0.1', port: receiver.port };
  // As `openForwarder`, but with more than a moment at the end: all of it may be sent only then.
  const forwarder = new Forwarder((signal) => openSink(target, undefined, signal), 60_000);
  const bytes = log.bytes(0, 20);
  forwarder.offer(bytes);
  // The caller's bytes are the caller's again.
  bytes.fill(0);
  for (let at = 20; at < 60; at++) forwarder.offer(log.bytes(at, at + 1));
  await forwarder.close();
  await until(() => receiver.counted().length === 60);
  t.deepEqual(bodyOf(receiver.counted()), lines);
  t.true(receiver.counted().every((message) => /^<1(08|10)>1 /.test(message)));
  t.deepEqual(forwarder.stats(), { queued: 0, sent: 60, dropped: 0, lastError: null });
});

test('over TLS it is sent to a receiver whose certificate the authority signed, and to no other', async (t) => {
  const authority = await Authority.create('Receivers');
  const names = [{ type: 'ip' as const, value: '127.0.0.1' }];
  const receiver = await StreamReceiver.open({ certified: await authority.issue({ names, usage: 'server' }) });
  t.teardown(() => receiver.close());
  const target = { kind: 'tls' as const, host: '127.0.0.1', port: receiver.port };
  const forwarder = openForwarder(target, Buffer.from(authority.pem));
  forwarder.offer(log.bytes());
  await until(() => forwarder.stats().sent === 60);
  await forwarder.close();
  await until(() => receiver.counted().length === 60);
  t.deepEqual(bodyOf(receiver.counted()), lines);

  const stranger = openForwarder(target, Buffer.from((await Authority.create('Others')).pem));
  stranger.offer(log.bytes(0, 1));
  await until(() => stranger.stats().lastError !== null);
  t.regex(stranger.stats().lastError ?? '', /certificate/);
  await stranger.close();
  t.like(stranger.stats(), { sent: 0, dropped: 1 });
  t.is(receiver.counted().length, 60);
});

test('a local stream socket gets messages that line feeds end', async (t) => {
  const { dir, clear } = newFolder();
  t.teardown(clear);
  const path = join(dir, 'log');
  const receiver = await StreamReceiver.open({ path });
  t.teardown(() => receiver.close());
  const forwarder = openForwarder({ kind: 'unix', path });
  forwarder.offer(log.bytes());
  await until(() => receiver.received.split('\n').length === 61);
  t.deepEqual(bodyOf(receiver.received.split('\n').slice(0, 60)), lines);
  await forwarder.close();
});

const DATAGRAMS = `
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("bound", flush=True)
for _ in range(int(sys.argv[2])):
    sys.stdout.buffer.write(s.recv(65536) + b"\\n")
    sys.stdout.buffer.flush()
`;

test('a local datagram socket, as /dev/log is, gets a message each, more than it has room for at once', async (t) => {
  const { dir, clear } = newFolder();
  t.teardown(clear);
  const path = join(dir, 'log');
  const child = spawn('python3', ['-c', DATAGRAMS, path, '60'], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill());
  let said = '';
  child.stdout.on('data', (data) => {
    said += data.toString('latin1');
  });
  child.on('error', () => {
    said = 'none';
  });
  await until(() => said !== '' || child.exitCode !== null);
  if (said === 'none') {
    t.log('NOT TESTED: there is no python3, which can make such a socket');
    t.pass();
    return;
  }
  const forwarder = openForwarder({ kind: 'unix', path });
  forwarder.offer(log.bytes());
  await until(() => forwarder.stats().sent === 60);
  await until(() => said.split('\n').length === 62);
  t.deepEqual(bodyOf(said.split('\n').slice(1, 61)), lines);
  await forwarder.close();
  const gone = openForwarder({ kind: 'unix', path: join(dir, 'none') });
  gone.offer(log.bytes(0, 1));
  await until(() => gone.stats().lastError !== null);
  t.regex(gone.stats().lastError ?? '', /ENOENT/);
  await gone.close();
});

test('a receiver that goes and comes back is connected again, and gets what waited', async (t) => {
  const first = await StreamReceiver.open({ port: await freePort() });
  const { port } = first;
  const forwarder = openForwarder({ kind: 'tcp', host: '127.0.0.1', port });
  forwarder.offer(log.bytes(0, 10));
  await until(() => first.counted().length === 10);
  await first.close();
  await noticed();
  forwarder.offer(log.bytes(10, 60));
  await until(() => /ECONNREFUSED/.test(forwarder.stats().lastError ?? ''));
  t.is(forwarder.stats().queued, 50);
  const second = await StreamReceiver.open({ port });
  t.teardown(() => second.close());
  await until(() => second.counted().length === 50);
  t.deepEqual(bodyOf(second.counted()), lines.slice(10));
  await until(() => forwarder.stats().queued === 0);
  t.deepEqual(forwarder.stats(), { queued: 0, sent: 60, dropped: 0, lastError: null });
  await forwarder.close();
});

test('over HTTP lines are posted in batches, and a batch again that was not answered with success', async (t) => {
  const { posts, port, close } = await openHttp((nth) => (nth === 2 ? undefined : nth === 1 ? 503 : 204));
  t.teardown(close);
  const forwarder = openForwarder({ kind: 'http', url: `http://127.0.0.1:${port}/audit?from=kms` });
  forwarder.offer(log.bytes(0, 30));
  await until(() => forwarder.stats().sent === 30);
  forwarder.offer(log.bytes(30));
  await until(() => forwarder.stats().sent === 60);
  await forwarder.close();
  const half = log.bytes(0, 30).toString('latin1');
  const whole = [half, half, half, log.bytes(30).toString('latin1')];
  t.deepEqual(
    posts.map(({ body }) => whole.indexOf(body)),
    [0, 0, 0, 3],
  );
  t.true(posts.every(({ type }) => type === 'application/x-ndjson'));
});

test('a batch that a receiver refuses is dropped and counted, and the next one sent', async (t) => {
  const { posts, port, close } = await openHttp((nth) => (nth === 1 ? 413 : 200));
  t.teardown(close);
  const forwarder = openForwarder({ kind: 'http', url: `http://127.0.0.1:${port}/` });
  forwarder.offer(log.bytes(0, 5));
  await until(() => forwarder.stats().dropped === 5);
  t.is(forwarder.stats().lastError, 'the receiver answered 413');
  forwarder.offer(log.bytes(5, 8));
  await until(() => forwarder.stats().sent === 3);
  t.is(posts.length, 2);
  await forwarder.close();
});

test('over HTTPS the receiver’s certificate is verified', async (t) => {
  const authority = await Authority.create('Receivers');
  const names = [{ type: 'ip' as const, value: '127.0.0.1' }];
  const { posts, port, close } = await openHttp(() => 200, await authority.issue({ names, usage: 'server' }));
  t.teardown(close);
  const target = { kind: 'http' as const, url: `https://127.0.0.1:${port}/` };
  const forwarder = openForwarder(target, Buffer.from(authority.pem));
  forwarder.offer(log.bytes());
  await until(() => forwarder.stats().sent === 60);
  await forwarder.close();
  t.is(posts.map(({ body }) => body).join(''), log.bytes().toString('latin1'));
  const stranger = openForwarder(target);
  stranger.offer(log.bytes(0, 1));
  await until(() => stranger.stats().lastError !== null);
  t.regex(stranger.stats().lastError ?? '', /certificate/);
  await stranger.close();
  t.is(stranger.stats().dropped, 1);
});

test('a receiver that takes nothing costs a bounded queue, a count of what was dropped, and a bounded stop', async (t) => {
  let closed = false;
  const hung: Sink = {
    send: () =>
      new Promise((_, fail) => {
        hung.close = () => {
          closed = true;
          fail(new Error('closed'));
        };
      }),
    close() {},
  };
  const forwarder = new Forwarder(async () => hung, 50);
  const many = Buffer.concat(Array.from({ length: 1_000 }, () => Buffer.from('{"event":{}}\n')));
  for (let n = 0; n < 70; n++) forwarder.offer(many);
  t.like(forwarder.stats(), { queued: FORWARD_QUEUE_LINES, dropped: 70_000 - FORWARD_QUEUE_LINES, sent: 0 });
  await new Promise((wake) => setImmediate(wake));
  await forwarder.close();
  t.true(closed);
  t.like(forwarder.stats(), { queued: 0, dropped: 70_000 });
  forwarder.offer(many);
  t.like(forwarder.stats(), { queued: 0, dropped: 71_000 });
});

test('a receiver that does not answer does not hold up a stop', async (t) => {
  const forwarder = new Forwarder(
    (signal) => new Promise((_, fail) => signal.addEventListener('abort', () => fail(new Error('closed')))),
    50,
  );
  forwarder.offer(Buffer.from('x\n'));
  await forwarder.close();
  t.like(forwarder.stats(), { queued: 0, dropped: 1, lastError: 'closed' });
});

test('a queue holds so many bytes at most, hands out batches, and forgets what was taken', (t) => {
  const queue = new LineQueue();
  const line = Buffer.concat([Buffer.alloc(8_000, 0x78), Buffer.from('\n')]);
  let dropped = 0;
  for (let n = 0; n < 3_000; n++) dropped += queue.add(line);
  t.true(queue.length * 8_000 <= FORWARD_QUEUE_BYTES && queue.length * 8_001 > FORWARD_QUEUE_BYTES - 8_001);
  t.is(dropped, 3_000 - queue.length);
  const before = queue.length;
  const batch = queue.batch();
  t.is(batch.length, Math.floor(FORWARD_BATCH_BYTES / 8_000));
  queue.taken(batch.length);
  t.is(queue.length, before - batch.length);
  while (queue.length > 0) queue.taken(queue.batch().length);
  t.is(queue.add(Buffer.from('a\nb\n')), 0);
  t.deepEqual(queue.batch().map(String), ['a', 'b']);
});

test('a receiver that is away holds up no other', async (t) => {
  const { dir, clear } = newFolder();
  t.teardown(clear);
  const receiver = await StreamReceiver.open({});
  t.teardown(() => receiver.close());
  const forwarders = new Forwarders([
    { kind: 'unix', path: join(dir, 'none') },
    { kind: 'tcp', host: '127.0.0.1', port: receiver.port },
  ]);
  forwarders.offer(log.bytes());
  await until(() => receiver.counted().length === 60);
  t.is(forwarders.dropped(), 0);
  await forwarders.close();
  t.is(forwarders.dropped(), 60);
  t.like(forwarders.stats(), [{ sent: 0 }, { sent: 60, dropped: 0, lastError: null }]);
});
