import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, statSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { connect as connectSocket } from 'node:net';
import { promisify } from 'node:util';
import test from 'ava';
import { startDaemon } from '../../dist/daemon/main.js';
import { OP } from '../../dist/wire/frames.js';
import { configIn, running, scratch } from './running.js';
import { settled } from './settled.js';

const OWN = process.geteuid?.() ?? -1;
const OTHER = OWN + 4242;
const NOBODY = { allowedUids: [], adminUids: [], auditorUids: [], unauthenticatedLoopbackRoles: [] };

test('the socket is for its owner only', async (t) => {
  const { daemon } = await running(t);
  t.is(statSync(daemon.socket).mode & 0o777, 0o600);
});

test('with a group the socket is for owner and group', async (t) => {
  const { daemon } = await running(t, { dev: true, group: String(process.getegid?.()) });
  t.is(statSync(daemon.socket).mode & 0o777, 0o660);
  t.is(statSync(daemon.socket).gid, process.getegid?.() ?? -1);
});

test('a client may create and use keys, and nothing of an admin or auditor', async (t) => {
  const { connect } = await running(t, { dev: true }, { access: { ...NOBODY, allowedUids: [OWN], adminUids: [OTHER] } });
  const peer = await connect();
  const key = (await peer.ask(OP.createDekForThread, 'thread')).results[0];
  t.is(await peer.outcome(OP.encrypt, key, Buffer.from('x'), null), 'OK');
  t.is(await peer.outcome(OP.encrypt, null, Buffer.from('x'), null), 'OK');
  t.is(await peer.outcome(OP.hello, 1, null), 'OK');
  for (const [op, ...args] of [
    [OP.getWrapped, key],
    [OP.status],
    [OP.listKeys, {}],
    [OP.describeKey, key],
    [OP.rewrap, key, null],
    [OP.rotateKek, {}],
    [OP.rotationStatus],
    [OP.seal],
    [OP.unseal],
    [OP.backup, { path: '/b' }],
  ] as const) {
    t.is(await peer.outcome(op, ...args), 'PERMISSION_DENIED', `op ${op}`);
  }
});

test('a client may disable and destroy the keys it created, not those of others', async (t) => {
  const { connect, daemon } = await running(t, { dev: true }, { access: { ...NOBODY, allowedUids: [OWN], adminUids: [OTHER] } });
  const peer = await connect();
  const own = (await peer.ask(OP.createDek, null)).results[0];
  const foreign = (await daemon.kms.createDek(undefined, { actor: `uid:${OTHER}` })).keyId;
  t.is(await peer.outcome(OP.setKeyState, own, 'disabled'), 'OK');
  t.is(await peer.outcome(OP.encrypt, own, Buffer.from('x'), null), 'KEY_DISABLED');
  t.is(await peer.outcome(OP.setKeyState, own, 'destroyed'), 'OK');
  t.is(await peer.outcome(OP.encrypt, own, Buffer.from('x'), null), 'KEY_DESTROYED');
  t.is(await peer.outcome(OP.setKeyState, foreign, 'disabled'), 'PERMISSION_DENIED');
  t.is((await daemon.kms.describeKey(foreign)).state, 'active');
});

test('an admin may change the keys of others', async (t) => {
  const { connect, daemon } = await running(t);
  const foreign = (await daemon.kms.createDek(undefined, { actor: `uid:${OTHER}` })).keyId;
  t.is(await (await connect()).outcome(OP.setKeyState, foreign, 'disabled'), 'OK');
});

test('an auditor may look and nothing else', async (t) => {
  const { connect, daemon } = await running(t, { dev: true }, { access: { ...NOBODY, auditorUids: [OWN] } });
  const { keyId } = await daemon.kms.createDek();
  const peer = await connect();
  for (const [op, ...args] of [[OP.status], [OP.listKeys, {}], [OP.describeKey, keyId], [OP.hello, 1, null]] as const) {
    t.is(await peer.outcome(op, ...args), 'OK', `op ${op}`);
  }
  for (const [op, ...args] of [
    [OP.encrypt, keyId, Buffer.from('x'), null],
    [OP.encrypt, null, Buffer.from('x'), null],
    [OP.decrypt, keyId, Buffer.alloc(40), null],
    [OP.encryptMany, keyId, [], null],
    [OP.encrypt, keyId, Buffer.alloc(300_000), null],
    [OP.createDek, null],
    [OP.createDekForThread, 'thread'],
    [OP.setKeyState, keyId, 'disabled'],
    [OP.getWrapped, keyId],
    [OP.seal],
  ] as const) {
    t.is(await peer.outcome(op, ...args), 'PERMISSION_DENIED', `op ${op}`);
  }
});

test('a process of an unknown uid is cut off before it is heard', async (t) => {
  if (OWN !== 0) {
    t.log('SKIPPED: needs root to become another uid');
    t.pass();
    return;
  }
  const { daemon, directory, events } = await running(t);
  // The file's mode would stop it earlier; here it is the daemon that has to.
  chmodSync(directory, 0o755);
  chmodSync(daemon.socket, 0o666);
  const script = `
    const socket = require('node:net').connect(process.argv[1], () => socket.write(Buffer.from('000000059500 01c0'.replace(' ', ''), 'hex')));
    let received = 0;
    socket.on('data', (bytes) => { received += bytes.length; }).on('error', () => {}).on('close', () => console.log('received', received));
  `;
  const { stdout } = await promisify(execFile)(process.execPath, ['-e', script, daemon.socket], {
    uid: 54321,
    gid: 54321,
    cwd: '/',
  });
  t.is(stdout.trim(), 'received 0');
  await settled(() => events.some(({ event }) => event === 'peer_refused'));
});

test('a peer of another protocol is closed without a reply', async (t) => {
  const { daemon, connect } = await running(t);
  const socket = connectSocket(daemon.socket);
  let received = 0;
  const closed = new Promise((resolve) => socket.on('close', resolve));
  socket
    .on('error', () => {})
    .on('data', (bytes) => {
      received += bytes.length;
    });
  // The first bytes of TLS.
  socket.write(Buffer.from('160301', 'hex'));
  await closed;
  t.is(received, 0);
  t.is(await (await connect()).outcome(OP.hello, 1, null), 'OK');
});

test('a living daemon’s socket is not taken over', async (t) => {
  const { directory, connect } = await running(t);
  const error = await t.throwsAsync(startDaemon(configIn(directory, { dev: true }), () => {}));
  t.true(error !== undefined && 'code' in error);
  t.is(await (await connect()).outcome(OP.hello, 1, null), 'OK');
});

test('an inspector is refused in strict mode', async (t) => {
  const config = configIn(scratch(t), {});
  const script = `
    const { startDaemon } = await import(process.argv[1]);
    await startDaemon(JSON.parse(process.argv[2]), () => {}).catch((error) => console.log(error.code, error.message));
  `;
  const main = new URL('../../dist/daemon/main.js', import.meta.url).href;
  const run = (...options: string[]) =>
    promisify(execFile)(process.execPath, [...options, '--input-type=module', '-e', script, main, JSON.stringify(config)]);
  t.regex((await run('--inspect=0')).stdout, /PERMISSION_DENIED.*inspector/);
  t.notRegex((await run()).stdout, /inspector/);
});

for (const isReloaded of [true, false]) {
  const name = isReloaded ? 'a body that takes longer than the rights of its sender is refused' : 'a body may take its time';
  test(name, async (t) => {
    const { daemon, directory } = await running(t);
    const headers = { expect: '100-continue', 'content-length': 2 };
    const asked = request({ socketPath: daemon.socket, method: 'POST', path: '/v1/keys', agent: false, headers });
    const answered = once(asked, 'response') as Promise<[IncomingMessage]>;
    asked.flushHeaders();
    await once(asked, 'continue');
    if (isReloaded) daemon.prepare(configIn(directory, { dev: true }, { access: { ...NOBODY, auditorUids: [OWN] } }))();
    else daemon.prepare(configIn(directory, { dev: true }))();
    asked.end('{}');
    const [response] = await answered;
    response.resume();
    t.is(response.statusCode, isReloaded ? 401 : 200);
  });
}
