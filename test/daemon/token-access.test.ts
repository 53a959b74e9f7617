import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { Authentication } from '../../dist/daemon/authentication.js';
import { ANONYMOUS, NO_UID } from '../../dist/daemon/identity.js';
import { Policy } from '../../dist/daemon/policy.js';
import { createToken, type NewToken, revokeToken } from '../../dist/daemon/token-writer.js';
import { Tokens } from '../../dist/daemon/tokens.js';
import { TOKEN_LOOK_MS } from '../../dist/limits.js';
import type { Peer as PeerOfSocket } from '../../dist/listening.js';
import type { KeyDescription } from '../../dist/provider.js';
import { OP } from '../../dist/wire/frames.js';
import { askHttp, codeOf } from './http-peer.js';
import { Peer } from './peer.js';
import { running, scratch } from './running.js';

const ACCESS = { allowedUids: [1000], adminUids: [], auditorUids: [], unauthenticatedLoopbackRoles: [] };
const X = Buffer.from('x');

function peerOf(change: Partial<PeerOfSocket>): PeerOfSocket {
  return { uid: NO_UID, gid: 0, pid: 0, address: '', port: 0, ...change };
}

function dataDirIn(directory: string): string {
  const dataDir = join(directory, 'data');
  mkdirSync(dataDir, { mode: 0o700 });
  return dataDir;
}

/** A daemon with a data directory, whose own uid is admin, and a maker of tokens for it. */
async function served(t: ExecutionContext) {
  const { daemon, directory, connect } = await running(t, {}, { endpoints: [{ host: '127.0.0.1', port: 0 }] });
  const dataDir = join(directory, 'data');
  const make = async (wanted: NewToken) => {
    const made = await createToken(dataDir, wanted);
    await new Promise((resolve) => setTimeout(resolve, TOKEN_LOOK_MS + 50));
    return made;
  };
  return { daemon, dataDir, connect, make };
}

test('who somebody is before a word is said: by uid, by loopback where it is allowed, and nobody only where tokens are', async (t) => {
  const dataDir = dataDirIn(scratch(t));
  const none = new Authentication(ACCESS, new Tokens(dataDir));
  const named = (authentication: Authentication, peer: Partial<PeerOfSocket>) => authentication.ofPeer(peerOf(peer))?.actor;
  t.is(named(none, { uid: 1000 }), 'uid:1000');
  t.is(named(none, { uid: 1000, address: '127.0.0.1', port: 1 }), 'uid:1000');
  for (const uid of [1001, 65534, NO_UID]) {
    t.is(named(none, { uid }), undefined);
    t.is(named(none, { uid, address: '127.0.0.1', port: 1 }), undefined);
    t.is(named(none, { uid, address: '192.0.2.1', port: 1 }), undefined);
  }
  await createToken(dataDir, { roles: ['client'] });
  const some = new Authentication(ACCESS, new Tokens(dataDir));
  t.is(some.ofPeer(peerOf({ uid: 1001, address: '127.0.0.1', port: 1 })), ANONYMOUS);
  t.is(some.ofPeer(peerOf({ address: '192.0.2.1', port: 1 })), ANONYMOUS);
  t.is(named(some, { uid: 1001 }), undefined, 'a Unix socket has the kernel’s word and needs no token');
  const open = new Authentication({ ...ACCESS, unauthenticatedLoopbackRoles: ['client'] }, undefined);
  t.is(named(open, { address: '127.0.0.1', port: 1 }), 'loopback');
  t.is(named(open, { address: '::1', port: 1 }), 'loopback');
  t.is(named(open, { address: '192.0.2.1', port: 1 }), undefined);
  t.is(named(open, { uid: 1001 }), undefined);
});

test('a token says over HTTP who asks, as Bearer and as the password of Basic, and takes the place of the uid', async (t) => {
  const { daemon, make } = await served(t);
  const { token, tokenId } = await make({ roles: ['client'] });
  const basic = `Basic ${Buffer.from(`kms:${token}`).toString('base64')}`;
  for (const to of [daemon.socket, daemon.ports[0]!]) {
    for (const authorization of [`Bearer ${token}`, `bearer ${token}`, basic]) {
      const headers = { authorization };
      const made = await askHttp(to, { path: '/v1/keys', body: {}, headers });
      t.is(made.status, 200);
      t.is((await daemon.kms.describeKey(made.json?.['key_id'] as string)).createdBy, `token:${tokenId}`);
      t.is((await askHttp(to, { path: '/v1/status', headers })).status, 403, 'our own uid would have been an admin');
    }
  }
});

test('whatever is wrong with a token, it is refused in one way and before the body is looked at', async (t) => {
  const { daemon, dataDir, make } = await served(t);
  const { token: expired } = await make({ roles: ['client'], lifeMs: 1 });
  const { token: revoked, tokenId } = await make({ roles: ['client'] });
  t.is(
    (await askHttp(daemon.socket, { path: '/v1/keys', body: {}, headers: { authorization: `Bearer ${revoked}` } })).status,
    200,
  );
  await revokeToken(dataDir, tokenId);
  await new Promise((resolve) => setTimeout(resolve, TOKEN_LOOK_MS + 50));
  const wrong = `${revoked.slice(0, -1)}${revoked.endsWith('A') ? 'B' : 'A'}`;
  const headers = [expired, revoked, wrong, 'x', ''].map((token) => `Bearer ${token}`);
  const texts = new Set<string>();
  for (const authorization of [...headers, 'Basic', 'Basic eA==', 'Digest x', 'Basic !']) {
    const answer = await askHttp(daemon.socket, { path: '/encrypt', body: '{', headers: { authorization } });
    t.is(answer.status, 401, authorization);
    t.truthy(answer.headers['www-authenticate']);
    texts.add(answer.text);
  }
  t.is(texts.size, 1);
  t.is(
    codeOf(await askHttp(daemon.socket, { path: '/encrypt', body: '{' })),
    'INVALID_ARGUMENT',
    'without a token it would be looked at',
  );
});

test('a token in hello says who goes on, and a bad one changes nothing', async (t) => {
  const { connect, make } = await served(t);
  const { token } = await make({ roles: ['auditor'] });
  const peer = await connect();
  t.is(await peer.outcome(OP.hello, 1, `${token}x`), 'UNAUTHENTICATED');
  t.is(await peer.outcome(OP.createDek, null), 'OK');
  t.is(await peer.outcome(OP.hello, 1, token), 'OK');
  t.is(await peer.outcome(OP.createDek, null), 'PERMISSION_DENIED');
  t.is(await peer.outcome(OP.status), 'OK');
  t.is(await peer.outcome(OP.encrypt, 'k_1', X, null), 'PERMISSION_DENIED');
});

test('a connection ends when the token that it came with is revoked', async (t) => {
  const { connect, dataDir, make } = await served(t);
  const { token, tokenId } = await make({ roles: ['client'] });
  const peer = await connect();
  t.is(await peer.outcome(OP.hello, 1, token), 'OK');
  t.is(await peer.outcome(OP.createDek, null), 'OK');
  await revokeToken(dataDir, tokenId);
  await peer.closed;
  t.pass();
});

test('a token for threads and for its own keys is for nothing else, on either protocol and every path', async (t) => {
  const { daemon, connect, make } = await served(t);
  const { token } = await make({ roles: ['client'], threadPrefixes: ['chat/'], own: true });
  const { token: broad } = await make({ roles: ['client'], threadPrefixes: ['chat/'] });
  const foreign = (await daemon.kms.createDekForThread('chat/1')).keyId;
  const outside = (await daemon.kms.createDekForThread('mail/1')).keyId;
  const peer = await connect();
  t.is(await peer.outcome(OP.hello, 1, token), 'OK');
  const own = (await peer.ask(OP.createDekForThread, 'chat/2')).results[0] as string;
  t.is(await peer.outcome(OP.createDekForThread, 'mail/2'), 'PERMISSION_DENIED');
  t.is(await peer.outcome(OP.createDek, null), 'PERMISSION_DENIED');
  t.is(await peer.outcome(OP.createDek, 'chat/label'), 'OK');
  for (const [keyId, outcome] of [
    [own, 'OK'],
    [foreign, 'PERMISSION_DENIED'],
    [outside, 'PERMISSION_DENIED'],
    [null, 'PERMISSION_DENIED'],
    ['k_none', 'KEY_NOT_FOUND'],
  ] as const) {
    for (const data of [X, Buffer.alloc(300_000)]) t.is(await peer.outcome(OP.encrypt, keyId, data, null), outcome, `${keyId}`);
    const opened = outcome === 'OK' ? 'AUTHENTICATION_FAILED' : outcome;
    t.is(await peer.outcome(OP.decrypt, keyId, Buffer.alloc(40), null), keyId === null ? 'PERMISSION_DENIED' : opened);
    if (keyId !== null) t.is(await peer.outcome(OP.encryptMany, keyId, [X], null), outcome);
  }
  const sealed = (await peer.ask(OP.encrypt, own, X, null)).results;
  t.is(sealed[1], '1');
  t.deepEqual((await peer.ask(OP.decrypt, own, sealed[0], null)).results, [X]);
  t.is(await peer.outcome(OP.setKeyState, foreign, 'disabled'), 'PERMISSION_DENIED');
  t.is(await peer.outcome(OP.setKeyState, own, 'disabled'), 'OK');

  const plaintext = X.toString('base64');
  const status = async (text: string, key_id: string) => {
    const headers = { authorization: `Bearer ${text}` };
    return (await askHttp(daemon.ports[0]!, { path: '/encrypt', body: { key_id, plaintext }, headers })).status;
  };
  t.deepEqual([await status(token, foreign), await status(broad, foreign), await status(broad, outside)], [403, 200, 403]);
});

test.serial('somebody unknown may be greeted and ask after the health, and nothing else', async (t) => {
  // Another uid is not to be had without root: the daemon is told that it does not know this one. No other test may run beside.
  const { daemon, make } = await served(t);
  const { token } = await make({ roles: ['client'] });
  const ofPeer = Reflect.get(Authentication.prototype, 'ofPeer');
  Authentication.prototype.ofPeer = () => ANONYMOUS;
  t.teardown(() => {
    Authentication.prototype.ofPeer = ofPeer;
  });
  const port = daemon.ports[0]!;
  t.is((await askHttp(port, { path: '/healthz' })).status, 200);
  t.is((await askHttp(port, { path: '/v1/keys', body: '{' })).status, 401);
  t.is((await askHttp(port, { path: '/v1/keys', body: {}, headers: { authorization: `Bearer ${token}` } })).status, 200);
  const peer = await Peer.connect(port);
  t.teardown(() => peer.close());
  for (const [op, ...args] of [
    [OP.encrypt, 'k_1', X, null],
    [OP.encrypt, null, X, null],
    [OP.createDek, null],
    [OP.status],
    [OP.seal],
  ] as const) {
    t.is(await peer.outcome(op, ...args), 'UNAUTHENTICATED', `op ${op}`);
  }
  t.is(await peer.outcome(OP.hello, 1, null), 'OK');
  t.is(await peer.outcome(OP.hello, 1, token), 'OK');
  t.is(await peer.outcome(OP.createDek, null), 'OK');
  // The beginning of a frame of 1 MiB: nobody has room for it, somebody has.
  const begun = Buffer.concat([Buffer.from([0, 0x10, 0, 0, 0x93]), Buffer.alloc(8_000)]);
  const nobody = await Peer.connect(port);
  nobody.write(begun);
  await nobody.closed;
  t.is(nobody.answers[0]?.error?.code, 'TOO_LARGE');
  peer.write(begun);
  await delay(200);
  t.false(peer.socket.destroyed);
});

test('a request whose token is revoked while its body comes in is refused', async (t) => {
  const { daemon, dataDir, make } = await served(t);
  const { token, tokenId } = await make({ roles: ['client'] });
  const body = JSON.stringify({ plaintext: X.toString('base64') });
  const asked = request({
    socketPath: daemon.socket,
    method: 'POST',
    path: '/encrypt',
    agent: false,
    headers: { authorization: `Bearer ${token}`, 'content-length': body.length, expect: '100-continue' },
  });
  const answered = once(asked, 'response');
  asked.flushHeaders();
  await once(asked, 'continue');
  asked.write(body.slice(0, 5));
  await revokeToken(dataDir, tokenId);
  await delay(TOKEN_LOOK_MS + 50);
  asked.end(body.slice(5));
  const [response] = (await answered) as [IncomingMessage];
  t.is(response.statusCode, 401);
  response.resume();
});

test('a token behind any number of other headers counts', async (t) => {
  const { daemon } = await served(t);
  const junk = Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`x-${index}`, 'y']));
  const status = async (headers: Record<string, string>) =>
    (await askHttp(daemon.socket, { path: '/v1/status', headers: { ...junk, ...headers } })).status;
  t.is(await status({}), 200);
  t.is(await status({ authorization: 'Bearer wrong' }), 401);
  t.is(await status({ origin: 'http://evil.example' }), 403);
  t.is(await status({ 'sec-fetch-user': '?1' }), 403);
});

test('what a narrowed token may is not remembered for another one of the same name', async (t) => {
  const policy = new Policy(async () => ({ threadId: 'chat/1', createdBy: 'uid:1' }) as KeyDescription);
  const call = { op: OP.encrypt, keyId: 'k_1', data: X, aad: undefined } as const;
  const roles = new Set(['client'] as const);
  const before = { actor: 'token:a', roles, threadPrefixes: ['chat/'] };
  const after = { ...before, threadPrefixes: ['mail/'] };
  await t.notThrowsAsync(policy.check(before, call));
  await t.throwsAsync(policy.check(after, call), { message: /not for this key/ });
  await t.notThrowsAsync(policy.check(before, call));
});
