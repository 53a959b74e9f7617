import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { OP } from '../../dist/wire/frames.js';
import { becomingHindrance } from '../secrets/users.js';
import { askHttp } from './http-peer.js';
import { Peer } from './peer.js';
import { running } from './running.js';

const OTHER = 54_321;
const ON_LOOPBACK = [{ host: '127.0.0.1', port: 0 }];
const ACCESS = { allowedUids: [], adminUids: [], auditorUids: [], unauthenticatedLoopbackRoles: [] };

async function binary(t: ExecutionContext, port: number): Promise<Peer> {
  const peer = await Peer.connect(port);
  t.teardown(() => peer.close());
  return peer;
}

/** What a process of another uid hears when it asks over HTTP: the status, or 0 for a connection that was closed unheard. */
async function statusForOther(port: number, path: string): Promise<number> {
  const script = `
    const { request } = require('node:http');
    const asked = request({ host: '127.0.0.1', port: ${port}, path: '${path}', method: 'POST' }, ({ statusCode }) => {
      console.log(statusCode);
      process.exit();
    });
    asked.on('error', () => console.log(0));
    asked.end('{}');`;
  const child = spawn(process.execPath, ['-e', script], {
    uid: OTHER,
    gid: OTHER,
    cwd: '/',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  child.stdout.on('data', (bytes) => (said += bytes));
  await once(child, 'close');
  return Number(said);
}

test('both protocols are spoken on an endpoint, and our own uid is known there as on the socket', async (t) => {
  const { daemon } = await running(t, { dev: true }, { endpoints: [...ON_LOOPBACK, { host: '::1', port: 0 }] });
  t.is(daemon.ports.length, 2);
  const peer = await binary(t, daemon.ports[0]!);
  const keyId = (await peer.ask(OP.createDek, null)).results[0] as string;
  t.is(await peer.outcome(OP.encrypt, keyId, Buffer.from('x'), null), 'OK');
  t.is((await askHttp(daemon.ports[0]!, { path: `/v1/keys/${keyId}` })).json?.['created_by'], `uid:${process.geteuid?.()}`);
  const v6 = connect(daemon.ports[1]!, '::1');
  v6.write(`GET /v1/status HTTP/1.1\r\nHost: [::1]:${daemon.ports[1]}\r\nConnection: close\r\n\r\n`);
  const [answer] = (await once(v6, 'data')) as [Buffer];
  t.regex(answer.toString(), /^HTTP\/1\.1 200/);
});

test('a Host that is not the endpoint is refused over TCP, whatever is asked', async (t) => {
  const { daemon } = await running(t, { dev: true }, { endpoints: ON_LOOPBACK });
  const port = daemon.ports[0]!;
  for (const [host, status] of [
    [`127.0.0.1:${port}`, 200],
    [`localhost:${port}`, 200],
    [`LOCALHOST:${port}`, 200],
    [`evil.example:${port}`, 403],
    ['localhost', 403],
    [`127.0.0.1:${port + 1}`, 403],
    [`127.0.0.1:${port}@evil.example`, 403],
  ] as const) {
    for (const path of ['/healthz', '/v1/status']) {
      t.is((await askHttp(port, { path, headers: { host } })).status, status, `${host} ${path}`);
    }
  }
});

test('a process of another uid on this machine is refused, listed it is a client, and on loopback it may be let in', async (t) => {
  const hindrance = becomingHindrance();
  if (hindrance !== undefined) {
    t.log(`SKIPPED: ${hindrance}`);
    t.pass();
    return;
  }
  const portWith = async (
    access: Partial<typeof ACCESS> | { allowedUids: number[] } | { unauthenticatedLoopbackRoles: ['client'] },
  ) => (await running(t, { dev: true }, { endpoints: ON_LOOPBACK, access: { ...ACCESS, ...access } })).daemon.ports[0]!;
  const closed = await portWith({});
  t.is(await statusForOther(closed, '/v1/keys'), 0, 'closed before it is heard');
  const listed = await portWith({ allowedUids: [OTHER] });
  t.is(await statusForOther(listed, '/v1/keys'), 200);
  t.is(await statusForOther(listed, '/v1/seal'), 403);
  const open = await portWith({ unauthenticatedLoopbackRoles: ['client'] });
  t.is(await statusForOther(open, '/v1/keys'), 200);
  t.is(await statusForOther(open, '/v1/seal'), 403);
});

test('an endpoint that is taken is a conflict, and nothing of the start stays', async (t) => {
  const first = await running(t, { dev: true }, { endpoints: ON_LOOPBACK });
  const endpoints = [{ host: '127.0.0.1', port: first.daemon.ports[0]! }];
  await t.throwsAsync(running(t, { dev: true }, { endpoints }), { message: /^conflicting state/ });
});
