import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls';
import test, { type ExecutionContext } from 'ava';
import { OP } from '../../dist/wire/frames.js';
import { encodeRequest } from '../../dist/wire/messages.js';
import type { Certified } from './authority.js';
import { settled } from './settled.js';
import { TlsGround } from './tls-ground.js';

/** A secured connection, or the code of the error for which there is none. */
async function dial(ground: TlsGround, options: ConnectionOptions = {}, certified?: Certified): Promise<TLSSocket | string> {
  const own = certified === undefined ? {} : { cert: certified.cert, key: certified.key };
  const socket = connectTls({ host: '127.0.0.1', port: ground.port, ca: ground.root.pem, ...own, ...options });
  return await new Promise((resolve) => {
    socket.on('secureConnect', () => resolve(socket));
    socket.on('error', (error: Error & { code?: string }) => resolve(error.code ?? error.message));
  });
}

/** The other side may have reset it. */
function closeOf(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.on('error', () => {});
    socket.on('close', () => resolve());
  });
}

/** All that comes until the other side ends. */
async function answerOf(socket: TLSSocket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  await closeOf(socket);
  return Buffer.concat(chunks);
}

async function open(t: ExecutionContext, ground: TlsGround, options: ConnectionOptions = {}, certified?: Certified) {
  const socket = await dial(ground, options, certified);
  if (typeof socket === 'string') throw new Error(socket);
  t.teardown(() => socket.destroy());
  return socket;
}

test('old versions and old cipher suites are refused', async (t) => {
  const ground = await TlsGround.create(t);
  await ground.start();
  const old = await dial(ground, { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' });
  t.is(old, 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION');
  for (const ciphers of ['AES128-GCM-SHA256', 'ECDHE-ECDSA-AES128-SHA', 'ECDHE-ECDSA-AES256-SHA384']) {
    const refused = await dial(ground, { maxVersion: 'TLSv1.2', ciphers: `${ciphers}:@SECLEVEL=0` });
    t.regex(String(refused), /HANDSHAKE_FAILURE|NO_CIPHER_MATCH/, ciphers);
  }
  const socket = await open(t, ground, { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-GCM-SHA256' });
  t.is(socket.getProtocol(), 'TLSv1.2');
});

for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
  test(`${version}: no session is taken up again: each connection shows its certificate`, async (t) => {
    const ground = await TlsGround.create(t);
    await ground.start();
    const app = await ground.client({ cn: 'app' });
    const sessions: Buffer[] = [];
    const first = connectTls({
      host: '127.0.0.1',
      port: ground.port,
      ca: ground.root.pem,
      cert: app.cert,
      key: app.key,
      maxVersion: version,
    });
    first.on('session', (session) => sessions.push(session));
    await once(first, 'secureConnect');
    first.write(encodeRequest(1, OP.hello, [1, null]));
    await once(first, 'data');
    first.destroy();
    for (const session of [...sessions, first.getSession()]) {
      if (session === undefined) continue;
      const again = await open(t, ground, { session, maxVersion: version }, app);
      t.false(again.isSessionReused());
    }
  });
}

test('TLS 1.2: a peer that wants to renegotiate is not served its wish', async (t) => {
  const ground = await TlsGround.create(t);
  await ground.start();
  const socket = await open(t, ground, { maxVersion: 'TLSv1.2' }, await ground.client({ cn: 'app' }));
  const renegotiated = await new Promise((resolve) => {
    socket.on('error', () => resolve(false));
    socket.on('close', () => resolve(false));
    if (!socket.renegotiate({}, (error) => resolve(error === null))) resolve(false);
    setTimeout(() => resolve(false), 500);
  });
  t.false(renegotiated);
});

test('plain bytes on a TLS endpoint, and TLS on a plain one, are closed at once', async (t) => {
  const ground = await TlsGround.create(t);
  await ground.start({
    endpoints: [
      { host: '127.0.0.1', port: 0, isTls: true },
      { host: '127.0.0.1', port: 0 },
    ],
    allowUnauthenticatedLoopback: true,
    unauthenticatedLoopbackRoles: ['client'],
    access: { ...ground.config.access, unauthenticatedLoopbackRoles: ['client'] },
  });
  for (const bytes of [encodeRequest(1, OP.hello, [1, null]), Buffer.from('GET /healthz HTTP/1.1\r\n\r\n')]) {
    const socket = connect(ground.port, '127.0.0.1');
    socket.write(bytes);
    const seen: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => seen.push(chunk));
    await closeOf(socket);
    t.is(Buffer.concat(seen).length, 0);
  }
  const plain = connectTls({ host: '127.0.0.1', port: ground.ports[1]!, rejectUnauthorized: false });
  const error = await new Promise<Error>((resolve) => plain.on('error', resolve));
  t.truthy(error);
});

test('a handshake that does not end, and one after which nothing is said, are dropped', async (t) => {
  const ground = await TlsGround.create(t);
  const { daemon, events } = await ground.start({ timeouts: { firstByteMs: 5_000, frameMs: 60_000, writeStallMs: 60_000 } });
  // Both at once: a handshake has that time, too, and must come to its end within it.
  const silent = await open(t, ground, {}, await ground.client({ cn: 'app' }));
  const silence = closeOf(silent.resume());
  const half = connect(ground.port, '127.0.0.1');
  half.resume();
  half.write(Buffer.from([0x16, 3, 1]));
  await Promise.all([closeOf(half), silence]);
  await settled(() => events.some(({ event }) => event === 'handshake_failed'));
  t.is(daemon.connections(), 0);
});

test('the daemon stops beside handshakes under way', async (t) => {
  const ground = await TlsGround.create(t);
  const { daemon } = await ground.start();
  const half = connect(ground.port, '127.0.0.1');
  half.write(Buffer.from([0x16, 3, 1]));
  const ends = closeOf(half);
  const silent = await open(t, ground, {}, await ground.client({ cn: 'app' }));
  const ended = Promise.all([ends, closeOf(silent.resume())]);
  await daemon.stop();
  await ended;
  t.pass();
});

test('who is refused gets one line or frame, and nothing that it sent is looked at', async (t) => {
  const ground = await TlsGround.create(t);
  await ground.start();
  const http = await open(t, ground);
  http.write('PO');
  const answer = (await answerOf(http)).toString();
  t.true(answer.startsWith('HTTP/1.1 401 Unauthorized\r\n'));
  t.regex(answer, /\{"error":\{"code":"UNAUTHENTICATED","message":"[^"]*no accepted client certificate"\}\}$/);
  const binary = await open(t, ground);
  // A frame of 16 MiB is announced, and does not come.
  binary.write(Buffer.from([0, 0xff, 0xff, 0xff]));
  const frame = await answerOf(binary);
  t.true(frame.includes('no accepted client certificate'));
  t.is(frame.readUInt32BE(0), frame.length - 4);
});

test('pages in a browser are refused over TLS as well, whatever the Host', async (t) => {
  const ground = await TlsGround.create(t);
  await ground.start();
  const app = await ground.client({ cn: 'app' });
  for (const [header, status] of [
    ['Origin: https://a', 403],
    ['Sec-Fetch-Mode: cors', 403],
    ['X-Other: y', 200],
  ] as const) {
    const socket = await open(t, ground, {}, app);
    socket.write(`GET /healthz HTTP/1.1\r\nHost: kms.example\r\n${header}\r\nConnection: close\r\n\r\n`);
    t.regex((await answerOf(socket)).toString(), new RegExp(`^HTTP/1\\.1 ${status} `));
  }
});
