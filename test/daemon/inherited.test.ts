import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, fstatSync, openSync, renameSync, statSync } from 'node:fs';
import { connect, createServer, type NetConnectOpts, type Server } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import test, { type ExecutionContext } from 'ava';
import { NO_UID } from '../../dist/daemon/identity.js';
import { binding } from '../../dist/native.js';
import { scratch } from './running.js';
import { codeOf, LONG_MS, Told } from './told.js';

const NATIVE = new URL('../../dist/native.js', import.meta.url).href;

/** Takes descriptor 3 over, tells of its first peer, closes, and ends if nothing else keeps it. */
const HEIR = `
  const { binding } = await import(${JSON.stringify(NATIVE)});
  const say = (word) => console.log(JSON.stringify(word));
  const acceptor = binding.listenFd(3, ${LONG_MS}, {
    onPeer: () => 0,
    onReady: (fd, { uid }, firstByte) => {
      binding.closeFd(fd);
      acceptor.close();
      say({ uid, firstByte });
    },
    onGone: () => {},
  });
  say({ address: acceptor.address, port: acceptor.port });
`;

async function serving(t: ExecutionContext, where: { path: string } | { host: string; port: number }): Promise<Server> {
  const server = createServer((socket) => socket.end());
  server.listen(where);
  await once(server, 'listening');
  t.teardown(() => server.close());
  return server;
}

function descriptorOf(server: Server): number {
  return (server as unknown as { _handle: { fd: number } })._handle.fd;
}

/** A process that has the server's socket, as from a service manager. */
function heirOf(t: ExecutionContext, server: Server): ChildProcess {
  const args = ['--input-type=module', '-e', HEIR];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit', descriptorOf(server)] });
  t.teardown(() => child.kill());
  return child;
}

/** Speaks to the heir once it serves; what it said, and how it ended. */
async function visit(child: ChildProcess, where: NetConnectOpts): Promise<{ said: unknown[]; code: unknown }> {
  const ended = once(child, 'exit');
  const said: unknown[] = [];
  for await (const line of createInterface({ input: child.stdout! })) {
    said.push(JSON.parse(line));
    if (said.length === 1)
      connect(where)
        .on('error', () => {})
        .write('x');
  }
  return { said, code: (await ended)[0] };
}

test('an inherited TCP socket is taken over, and is let go of at the end', async (t) => {
  const server = await serving(t, { host: '127.0.0.1', port: 0 });
  const { port } = server.address() as { port: number };
  const child = heirOf(t, server);
  server.close();
  const uid = process.platform === 'linux' ? process.geteuid!() : NO_UID;
  t.deepEqual(await visit(child, { host: '127.0.0.1', port }), {
    said: [
      { address: '127.0.0.1', port },
      { uid, firstByte: 'x'.charCodeAt(0) },
    ],
    code: 0,
  });
});

test('an inherited Unix socket is taken over, and its file stays', async (t) => {
  const directory = scratch(t);
  const path = join(directory, 'moved');
  const server = await serving(t, { path: join(directory, 'made') });
  const child = heirOf(t, server);
  // Closing removes the file that was made, not that which it has become.
  renameSync(join(directory, 'made'), path);
  server.close();
  t.deepEqual(await visit(child, { path }), {
    said: [
      { address: '', port: 0 },
      { uid: process.geteuid!(), firstByte: 'x'.charCodeAt(0) },
    ],
    code: 0,
  });
  t.true(statSync(path).isSocket());
  const [error] = await once(connect({ path }), 'error');
  t.is((error as NodeJS.ErrnoException).code, 'ECONNREFUSED');
});

test('what is no listening socket is refused and left open', (t) => {
  const told = new Told();
  const file = openSync('/dev/null', 'r');
  for (const fd of [file, -1, 0x7fffffff, 'x', undefined]) {
    t.is(
      codeOf(() => binding.listenFd(fd as number, LONG_MS, told)),
      'INVALID_ARGUMENT',
    );
  }
  t.true(fstatSync(file).isCharacterDevice());
  closeSync(file);
});

test('a socket that this process serves already is refused, and served on', async (t) => {
  const server = await serving(t, { host: '127.0.0.1', port: 0 });
  t.is(
    codeOf(() => binding.listenFd(descriptorOf(server), LONG_MS, new Told())),
    'INVALID_ARGUMENT',
  );
  const socket = connect(server.address() as { port: number });
  await once(socket.resume(), 'end');
  t.pass();
});
