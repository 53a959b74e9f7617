import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readlinkSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { NO_UID } from '../../dist/daemon/identity.js';
import type { TcpAcceptor } from '../../dist/listening.js';
import { binding } from '../../dist/native.js';
import { becomingHindrance } from '../secrets/users.js';
import { codeOf, LONG_MS, Told } from './told.js';

const OWN_UID = process.geteuid!();

function listen(t: ExecutionContext, told: Told, host = '127.0.0.1', firstByteMs = LONG_MS): TcpAcceptor {
  const acceptor = binding.listenTcp(host, 0, firstByteMs, told);
  t.teardown(() => acceptor.close());
  return acceptor;
}

async function dial(t: ExecutionContext, port: number, host = '127.0.0.1'): Promise<Socket> {
  const socket = connect(port, host);
  t.teardown(() => socket.destroy());
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

/** However it ends: bytes that nobody read make it a reset. */
function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.on('close', () => resolve()));
}

function socketsOpen(): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:');
    } catch {
      return false;
    }
  }).length;
}

for (const host of ['127.0.0.1', '::1']) {
  test(`a peer over ${host} is told with uid, address and port, and handed over with its first byte unread`, async (t) => {
    const told = new Told();
    const acceptor = listen(t, told, host);
    t.true(acceptor.port > 0);
    const socket = await dial(t, acceptor.port, host);
    await told.until(() => told.peers.length === 1);
    const uid = process.platform === 'linux' ? OWN_UID : NO_UID;
    t.deepEqual(told.peers, [{ uid, gid: 0, pid: 0, address: host, port: socket.localPort! }]);
    t.deepEqual(told.ready, []);
    socket.write('xyz');
    await told.until(() => told.ready.length === 1);
    t.deepEqual(told.ready, [{ peer: told.peers[0]!, firstByte: 'x'.charCodeAt(0), unread: 'xyz' }]);
    t.deepEqual(told.gone, []);
  });
}

test('a refused peer is closed before a byte of it is read', async (t) => {
  const told = new Told(() => false);
  const socket = await dial(t, listen(t, told).port);
  socket.write('x');
  socket.resume();
  await closed(socket);
  t.deepEqual([told.peers.length, told.ready.length, told.gone.length], [1, 0, 0]);
});

test('a peer that says nothing is cut off in time, one that hangs up at once is told', async (t) => {
  const told = new Told();
  const { port } = listen(t, told, '127.0.0.1', 200);
  const silent = await dial(t, port);
  silent.resume();
  await closed(silent);
  await told.until(() => told.gone.length === 1);
  t.is(told.gone[0]!.port, told.peers[0]!.port);
  (await dial(t, port)).destroy();
  await told.until(() => told.gone.length === 2);
  t.deepEqual(told.ready, []);
});

test('closing drops those who wait and frees the port, which is nobody else’s before', async (t) => {
  const told = new Told();
  const acceptor = listen(t, told);
  const again = () => binding.listenTcp('127.0.0.1', acceptor.port, LONG_MS, told);
  const waiting = await dial(t, acceptor.port);
  waiting.resume();
  await told.until(() => told.peers.length === 1);
  t.is(codeOf(again), 'CONFLICT');
  acceptor.close();
  acceptor.close();
  await closed(waiting);
  const second = again();
  t.teardown(() => second.close());
  t.is(second.port, acceptor.port);
  await dial(t, second.port);
  await told.until(() => told.peers.length === 2);
});

test('only a numeric address and a port are listened on', (t) => {
  const told = new Told();
  const outcome = (host: unknown, port: unknown) =>
    codeOf(() => binding.listenTcp(host as string, port as number, LONG_MS, told));
  for (const host of ['localhost', '', '127.0.0.1\0', '127.1', '[::1]', 'fe80::1%lo', 7])
    t.is(outcome(host, 0), 'INVALID_ARGUMENT');
  for (const port of [-1, 65536, 1.5, Number.NaN, '80', undefined]) t.is(outcome('127.0.0.1', port), 'INVALID_ARGUMENT');
  t.is(
    codeOf(() => binding.listenTcp('127.0.0.1', 0, LONG_MS, undefined as unknown as Told)),
    'INVALID_ARGUMENT',
  );
});

test('a peer of another uid is seen with that uid', async (t) => {
  const hindrance = process.platform === 'linux' ? becomingHindrance() : 'only Linux tells the uid of a TCP peer';
  if (hindrance !== undefined) {
    t.log(`left out: ${hindrance}`);
    t.pass();
    return;
  }
  const told = new Told();
  const { port } = listen(t, told);
  // Of the shell alone, which any user may run: where Node lies may be closed to others.
  const script = `exec 3<>/dev/tcp/127.0.0.1/${port}; printf x >&3; read -r`;
  const child = spawn('bash', ['-c', script], { uid: 4711, gid: 4712, cwd: '/', stdio: ['pipe', 'ignore', 'inherit'] });
  const ended = once(child, 'exit');
  await told.until(() => told.ready.length === 1);
  t.deepEqual([told.peers[0]!.uid, told.peers[0]!.gid], [4711, 0]);
  child.stdin!.end('\n');
  await ended;
});

// Alone, because it counts the sockets of the whole process.
test.serial('no descriptor is left behind by a thousand connections, refused, heard or gone', async (t) => {
  if (process.platform !== 'linux') {
    t.log('left out: descriptors are counted in /proc');
    t.pass();
    return;
  }
  let count = 0;
  const told = new Told(() => count++ % 3 !== 0);
  const { port } = listen(t, told);
  const before = socketsOpen();
  for (let round = 0; round < 20; round++) {
    const sockets = await Promise.all(Array.from({ length: 50 }, () => dial(t, port)));
    if (round === 0) t.true(socketsOpen() >= before + 50, 'they are seen');
    const ends = sockets.map(closed);
    for (const [i, socket] of sockets.entries()) {
      socket.resume();
      if (i % 2 === 0) socket.write('x');
      else socket.destroy();
    }
    await Promise.all(ends);
  }
  await told.until(() => told.peers.length === 1000 && told.ready.length + told.gone.length === 666);
  t.true(told.ready.length > 100 && told.gone.length > 100);
  await new Promise((resolve) => setImmediate(resolve));
  t.is(socketsOpen(), before);
});
