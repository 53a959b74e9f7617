import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import test, { type ExecutionContext } from 'ava';
import { Admission } from '../../dist/daemon/admission.js';
import { MAX_UNKNOWN_CONNECTIONS } from '../../dist/limits.js';
import type { Certified } from './authority.js';
import { settle } from './running.js';
import { TlsGround } from './tls-ground.js';

const PAIRS_AT_ONCE = 20;

/** Undefined, and said, where there are no two addresses to connect to. */
async function ground(t: ExecutionContext): Promise<TlsGround | undefined> {
  if (process.platform !== 'linux') {
    t.log('skipped: only Linux has the whole of 127.0.0.0/8');
    t.pass();
    return undefined;
  }
  const made = await TlsGround.create(t);
  await made.start({ endpoints: [{ host: '0.0.0.0', port: 0, isTls: true }] });
  return made;
}

async function dial(port: number, host: string, localPort: number): Promise<Socket> {
  const socket = connect({ port, host, localAddress: '127.0.0.1', localPort });
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

/** Two connections from one port: the daemon sees the same other end. */
async function pair(port: number): Promise<[Socket, Socket]> {
  const first = await dial(port, '127.0.0.1', 0);
  return [first, await dial(port, '127.0.0.2', first.localPort!)];
}

/** The first line of the answer to a request that needs a role; `''` if there is none. */
async function answered(socket: Socket, ca: string, own: Partial<Certified>): Promise<string> {
  const secured = connectTls({ socket, ca, checkServerIdentity: () => undefined, ...own });
  secured.on('error', () => {});
  secured.write(
    'POST /create_dek_for_thread HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 17\r\n\r\n{"thread_id":"t"}',
  );
  let text = '';
  secured.setEncoding('utf8').on('data', (more: string) => {
    text += more;
  });
  await new Promise((resolve) => secured.on('close', resolve));
  return text.split('\r\n', 1)[0]!;
}

test('of two connections from the same port to two addresses each is who it is by its own certificate', async (t) => {
  const tls = await ground(t);
  if (tls === undefined) return;
  const { cert, key } = await tls.client({ cn: 'app' });
  const [nobody, app] = await pair(tls.port);
  const answers = await Promise.all([answered(nobody, tls.root.pem, {}), answered(app, tls.root.pem, { cert, key })]);
  t.deepEqual(answers, ['HTTP/1.1 401 Unauthorized', 'HTTP/1.1 200 OK']);
});

for (const [name, greeting] of [
  ['silent', ''],
  ['greeting', '\x16'],
] as const) {
  test(`connections from the same port to two addresses, ${name}, are gone when they are gone`, async (t) => {
    const tls = await ground(t);
    if (tls === undefined) return;
    for (let made = 0; made < MAX_UNKNOWN_CONNECTIONS - PAIRS_AT_ONCE; made += PAIRS_AT_ONCE) {
      const pairs = await Promise.all(Array.from({ length: PAIRS_AT_ONCE }, () => pair(tls.port)));
      for (const socket of pairs.flat()) socket.write(greeting);
      // Only of connections that have been accepted both ends are known.
      await settle(10);
      for (const socket of pairs.flat()) socket.resetAndDestroy();
    }
    await settle(10);
    // More than there is room for beside those that would still be counted.
    const others = await Promise.all(Array.from({ length: 2 * PAIRS_AT_ONCE }, () => dial(tls.port, '127.0.0.1', 0)));
    await settle(10);
    t.is(await tls.outcome('https', await tls.client({ cn: 'app' })), 'OK');
    for (const socket of others) socket.destroy();
  });
}

test.serial('who is refused is counted as long as it takes a descriptor', async (t) => {
  const tls = await ground(t);
  if (tls === undefined) return;
  const { release } = Admission.prototype;
  t.teardown(() => Object.assign(Admission.prototype, { release }));
  const descriptors = () => readdirSync('/proc/self/fd').length;
  const open = new Promise<number>((resolve) => {
    Admission.prototype.release = function (this: Admission, who) {
      release.call(this, who);
      resolve(descriptors());
    };
  });
  // Its own half stays open, so that nothing of it is closed meanwhile.
  const plain = connect({ host: '127.0.0.1', port: tls.port, allowHalfOpen: true });
  const socket = connectTls({ socket: plain, ca: tls.root.pem, checkServerIdentity: () => undefined });
  t.teardown(() => socket.destroy());
  await once(socket, 'secureConnect');
  const before = descriptors();
  socket.on('error', () => {});
  socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
  t.is(await open, before - 1);
});
