import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { join, resolve } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { takeInherited } from '../../dist/daemon/inherited.js';
import { OP } from '../../dist/wire/frames.js';
import { askHttp } from './http-peer.js';
import { Peer } from './peer.js';
import { scratch } from './running.js';

const CLI = resolve('dist/cli/main.js');

/** A daemon of its own process that is handed `server`'s listening socket as fd 3; resolves when it serves or has ended. */
async function handedTo(t: ExecutionContext, server: Server, environment: Record<string, string>, socket: string) {
  const { fd } = (server as unknown as { _handle: { fd: number } })._handle;
  const env = { PATH: process.env['PATH'], ...environment };
  const child = spawn(process.execPath, [CLI, 'serve', '--dev', '--socket', socket], {
    env,
    stdio: ['ignore', 'ignore', 'pipe', fd],
  });
  // Not its exit: what it said may come after that.
  const ended = once(child, 'close');
  t.teardown(async () => {
    child.kill();
    await ended;
    server.close();
  });
  let said = '';
  const serves = new Promise<void>((done) => {
    child.stderr!.on('data', (bytes) => {
      said += bytes;
      if (said.includes('"listening"')) done();
    });
  });
  await Promise.race([serves, ended]);
  return { child, ended, said: () => said };
}

async function bound(): Promise<Server> {
  const server = createServer();
  server.listen({ host: '127.0.0.1', port: 0 });
  await once(server, 'listening');
  return server;
}

test('a socket that was bound for the daemon is served in place of its own', async (t) => {
  const own = join(scratch(t), 'own.sock');
  const server = await bound();
  const { port } = server.address() as AddressInfo;
  const { child, ended, said } = await handedTo(t, server, { LISTEN_FDS: '1' }, own);
  // From here only the daemon has it.
  server.close();
  t.regex(said(), /"inherited":1/);
  t.false(existsSync(own), 'the socket of the configuration is not bound as well');
  t.is((await askHttp(port, { path: '/healthz' })).status, 200);
  t.is((await askHttp(port, { path: '/healthz', headers: { host: 'elsewhere.example' } })).status, 403);
  const peer = await Peer.connect(port);
  t.is(await peer.outcome(OP.createDek, null), 'OK');
  await peer.close();
  child.kill('SIGTERM');
  t.deepEqual(await ended, [0, null]);
});

test('what is no listening socket is refused, and so is a number that is none', async (t) => {
  const { child, said } = await handedTo(t, await bound(), { LISTEN_FDS: '2' }, join(scratch(t), 'own.sock'));
  t.not(child.exitCode, 0);
  t.not(child.exitCode, null);
  t.regex(said(), /^progressdb-kms: /m);
});

test('the variables are for the process that they name, and go no further', (t) => {
  t.deepEqual(takeInherited({}), []);
  t.deepEqual(takeInherited({ LISTEN_FDS: '2' }), [3, 4]);
  t.deepEqual(takeInherited({ LISTEN_FDS: '1', LISTEN_PID: '7' }, 7), [3]);
  t.deepEqual(takeInherited({ LISTEN_FDS: '1', LISTEN_PID: '8' }, 7), []);
  const env = { LISTEN_FDS: '1', LISTEN_PID: '7', LISTEN_FDNAMES: 'a', OTHER: 'x' };
  takeInherited(env, 7);
  t.deepEqual(env as unknown, { OTHER: 'x' });
  for (const LISTEN_FDS of ['x', '-1', '17', '1e1', '']) {
    t.throws(() => takeInherited({ LISTEN_FDS }), { message: /LISTEN_FDS/ });
  }
});
