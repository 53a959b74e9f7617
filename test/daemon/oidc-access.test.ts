import { createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { once } from 'node:events';
import { IncomingMessage, request } from 'node:http';
import { Socket } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { CompactSign } from 'jose';
import { Authentication } from '../../dist/daemon/authentication.js';
import type { HeldBytes } from '../../dist/daemon/buffers.js';
import type { DaemonFlags } from '../../dist/daemon/config.js';
import { withBody } from '../../dist/daemon/http/body.js';
import { Share } from '../../dist/daemon/http/share.js';
import { ANONYMOUS, NO_UID } from '../../dist/daemon/identity.js';
import { Issuer } from '../../dist/daemon/oidc/issuer.js';
import { systemClock } from '../../dist/daemon/tokens.js';
import { MAX_JWT_BYTES, MAX_JWTS_IN_FLIGHT, MAX_JWTS_PER_CONNECTION } from '../../dist/limits.js';
import { OP } from '../../dist/wire/frames.js';
import { askHttp, codeOf } from './http-peer.js';
import { AUDIENCE, type Claims, claimsOf, ISSUER, jwtOf, keyFileIn, oidcConfig, part, seconds, signerOf } from './oidc-tokens.js';
import { Peer } from './peer.js';
import { configIn, scratch, start } from './running.js';

const ACCESS = { allowedUids: [], adminUids: [], auditorUids: [], unauthenticatedLoopbackRoles: [] };
const X = Buffer.from('x');
const signer = signerOf();
const stranger = signerOf();

/** A daemon that takes the tokens of `signer`. Its own uid, which the tests run as, is admin. */
async function served(t: ExecutionContext, flags: DaemonFlags = {}) {
  const directory = scratch(t);
  const file = keyFileIn(directory, signer);
  const issuer = { oidcIssuer: ISSUER, oidcAudience: AUDIENCE, oidcJwksFile: file, oidcClientSubjects: 'alice' };
  const endpoints = { endpoints: [{ host: '127.0.0.1', port: 0, source: 'test' }] };
  const configOf = (more: DaemonFlags) => configIn(directory, { dev: true, ...issuer, ...flags, ...more }, endpoints);
  const { daemon, events, connect } = await start(t, configOf({}), directory);
  const status = async (token: string, path = '/v1/keys') =>
    (await askHttp(daemon.ports[0]!, { path, body: {}, headers: { authorization: `Bearer ${token}` } })).status;
  return { daemon, directory, events, connect, status, reload: (more: DaemonFlags) => daemon.prepare(configOf(more))() };
}

const AT = seconds();
const [header, claims, signature] = jwtOf(signer, claimsOf({ exp: AT + 900 })).split('.') as [string, string, string];

function hmacWith(key: KeyObject): string {
  const text = `${part({ alg: 'HS256', kid: signer.kid })}.${claims}`;
  return `${text}.${createHmac('sha256', key.export({ type: 'spki', format: 'pem' }))
    .update(text)
    .digest('base64url')}`;
}

/** What is wrong with a token. All of them are refused in one way. */
const BAD: Array<[what: string, token: string]> = [
  ['that has expired', jwtOf(signer, claimsOf({ exp: AT - 100 }))],
  ['for tomorrow', jwtOf(signer, claimsOf({ nbf: AT + 40_000 }))],
  ['for another audience', jwtOf(signer, claimsOf({ aud: 'other' }))],
  ['of another issuer', jwtOf(signer, claimsOf({ iss: 'https://evil.example' }))],
  ['without a subject', jwtOf(signer, claimsOf({ sub: undefined }))],
  ['without an expiry', jwtOf(signer, claimsOf({ exp: undefined }))],
  ['that another key signed', jwtOf({ ...stranger, kid: signer.kid }, claimsOf())],
  ['of a key that nobody knows', jwtOf({ ...stranger, kid: 'two' }, claimsOf())],
  ['that brings its key along', jwtOf({ ...stranger, kid: 'two' }, claimsOf(), { jwk: stranger.jwk })],
  ['that says where its key is', jwtOf(stranger, claimsOf(), { jku: 'http://127.0.0.1:1/', x5u: 'http://127.0.0.1:1/' })],
  ['without a signature', `${part({ alg: 'none' })}.${claims}.`],
  ['with alg none and a signature', `${part({ alg: 'none' })}.${claims}.${signature}`],
  ['with the public key for a secret', hmacWith(signer.publicKey)],
  ['of an algorithm that is not allowed', jwtOf(signer, claimsOf(), { alg: 'ES384' })],
  ['with something critical', jwtOf(signer, claimsOf(), { crit: ['x'], x: 1 })],
  ['of a logout', jwtOf(signer, claimsOf(), { typ: 'logout+jwt' })],
  ['whose claims are another one’s', `${header}.${part(claimsOf({ sub: 'root' }))}.${signature}`],
  ['with half a signature', `${header}.${claims}.${signature.slice(0, 43)}`],
  ['with a signature of zeros', `${header}.${claims}.${part(Buffer.alloc(64).toString('latin1'))}`],
  [
    'with a signature in ASN.1',
    `${header}.${claims}.${sign('sha256', Buffer.from(`${header}.${claims}`), signer.privateKey).toString('base64url')}`,
  ],
  ['that is too long', jwtOf(signer, claimsOf({ x: 'x'.repeat(MAX_JWT_BYTES) }))],
  ['that is none', 'a.b.c'],
];

test('a token of the issuer says who asks, on either protocol and listener, and takes the place of the uid', async (t) => {
  const { daemon, connect, status } = await served(t);
  const token = jwtOf(signer);
  const basic = `Basic ${Buffer.from(`kms:${token}`).toString('base64')}`;
  for (const to of [daemon.socket, daemon.ports[0]!]) {
    for (const authorization of [`Bearer ${token}`, basic]) {
      const made = await askHttp(to, { path: '/v1/keys', body: {}, headers: { authorization } });
      t.is(made.status, 200);
      t.is((await daemon.kms.describeKey(made.json?.['key_id'] as string)).createdBy, 'oidc:alice');
      t.is((await askHttp(to, { path: '/v1/status', headers: { authorization } })).status, 403, 'our own uid is an admin');
    }
  }
  t.is(await status(jwtOf(signer, claimsOf({ exp: seconds() - 1 }))), 200, 'within the skew');
  t.is(await status(jwtOf(signer, claimsOf({ nbf: AT + 50, iat: AT + 50 }))), 200, 'within the skew');
  const peer = await connect();
  t.is(await peer.outcome(OP.hello, 1, token), 'OK');
  const key = (await peer.ask(OP.createDek, null)).results[0] as string;
  t.is((await daemon.kms.describeKey(key)).createdBy, 'oidc:alice');
  t.is(await peer.outcome(OP.encrypt, key, X, null), 'OK');
  t.is(await peer.outcome(OP.status), 'PERMISSION_DENIED');
});

test('whatever is wrong with a token, it is refused in one way, before the body is looked at, and why is only logged', async (t) => {
  const { daemon, events } = await served(t);
  const texts = new Set<string>();
  for (const [what, token] of BAD) {
    const headers = { authorization: `Bearer ${token}`, 'x-request-id': '1' };
    const answer = await askHttp(daemon.ports[0]!, { path: '/encrypt', body: '{', headers });
    t.is(answer.status, 401, what);
    t.is(answer.headers['www-authenticate'] === undefined, false);
    texts.add(answer.text);
  }
  t.deepEqual([...texts], ['{"error":{"code":"UNAUTHENTICATED","message":"not authenticated: the token is not valid"}}']);
  t.true(events.some(({ event }) => event === 'jwt_refused'));
  const headers = { authorization: `Bearer ${jwtOf(signer)}` };
  t.is(
    codeOf(await askHttp(daemon.ports[0]!, { path: '/encrypt', body: '{', headers })),
    'INVALID_ARGUMENT',
    'a good one’s would be',
  );
});

test('the same in hello, which then changes nothing', async (t) => {
  const { connect } = await served(t);
  const peer = await connect();
  for (const [what, token] of BAD) t.is(await peer.outcome(OP.hello, 1, token), 'UNAUTHENTICATED', what);
  t.is(await peer.outcome(OP.status), 'OK');
  t.is(await peer.outcome(OP.hello, 1, jwtOf(signer)), 'OK');
  t.is(await peer.outcome(OP.status), 'PERMISSION_DENIED');
});

test('who waits to be asked for its body is refused, or asked, by its token', async (t) => {
  const { daemon } = await served(t);
  const outcome = async (token: string) => {
    const headers = { authorization: `Bearer ${token}`, 'content-length': 2, expect: '100-continue' };
    const asked = request({ port: daemon.ports[0]!, method: 'POST', path: '/v1/keys', agent: false, headers });
    let continued = false;
    asked.on('continue', () => {
      continued = true;
      asked.end('{}');
    });
    const answered = once(asked, 'response');
    asked.flushHeaders();
    const [response] = (await answered) as [IncomingMessage];
    response.resume();
    return [response.statusCode, continued];
  };
  t.deepEqual(await outcome(jwtOf({ ...stranger, kid: signer.kid })), [401, false]);
  t.deepEqual(await outcome(jwtOf(signer)), [200, true]);
});

test('who is genuine and has no role is told so, and may nothing', async (t) => {
  const { connect, status } = await served(t);
  t.is(await status(jwtOf(signer, claimsOf({ sub: 'bob' }))), 403);
  t.is(await (await connect()).outcome(OP.hello, 1, jwtOf(signer, claimsOf({ sub: 'bob' }))), 'PERMISSION_DENIED');
});

test('prefixes keep a token to its threads, on either protocol', async (t) => {
  const { daemon, connect, status } = await served(t, { oidcPrefixesClaim: 'threads' });
  t.is(await status(jwtOf(signer)), 403, 'a token without them');
  const token = jwtOf(signer, claimsOf({ threads: ['chat/'] }));
  const peer = await connect();
  t.is(await peer.outcome(OP.hello, 1, token), 'OK');
  t.is(await peer.outcome(OP.createDekForThread, 'chat/1'), 'OK');
  t.is(await peer.outcome(OP.createDekForThread, 'mail/1'), 'PERMISSION_DENIED');
  const [inside, outside] = [await daemon.kms.createDekForThread('chat/2'), await daemon.kms.createDekForThread('mail/2')];
  t.is(await peer.outcome(OP.encrypt, inside.keyId, X, null), 'OK');
  t.is(await peer.outcome(OP.encrypt, outside.keyId, X, null), 'PERMISSION_DENIED');
  const encrypt = async (key_id: string) => {
    const body = { key_id, plaintext: X.toString('base64') };
    return (await askHttp(daemon.socket, { path: '/encrypt', body, headers: { authorization: `Bearer ${token}` } })).status;
  };
  t.deepEqual([await encrypt(inside.keyId), await encrypt(outside.keyId)], [200, 403]);
});

// Alone, because it sets the clock of all daemons.
test.serial('a connection ends when the token that it came with expires', async (t) => {
  const { connect, status } = await served(t, { oidcClockSkewSeconds: 4 });
  const token = jwtOf(signer);
  const peer = await connect();
  t.is(await peer.outcome(OP.hello, 1, token), 'OK');
  t.is(await peer.outcome(OP.createDek, null), 'OK');
  t.is(await status(token), 200);
  const { wall } = systemClock;
  t.teardown(() => {
    systemClock.wall = wall;
  });
  systemClock.wall = () => wall() + 300_000 + 4_000;
  await peer.closed;
  t.is(await status(token), 401);
});

test('a new reading of the configuration ends what it does not allow any more, and nothing else', async (t) => {
  const { connect, status, reload } = await served(t);
  const token = jwtOf(signer);
  const [peer, own] = [await connect(), await connect()];
  t.is(await peer.outcome(OP.hello, 1, token), 'OK');
  reload({ logLevel: 'debug' });
  t.is(await peer.outcome(OP.createDek, null), 'OK');
  t.throws(() => reload({ oidcJwksFile: '/absent/jwks.json' }), { message: /absent\/jwks\.json cannot be read: ENOENT$/ });
  t.is(await peer.outcome(OP.createDek, null), 'OK');
  reload({ oidcClientSubjects: 'bob' });
  await peer.closed;
  t.is(await status(token), 403);
  t.is(await status(jwtOf(signer, claimsOf({ sub: 'bob' }))), 200);
  reload({ oidcIssuer: undefined, oidcAudience: undefined, oidcJwksFile: undefined, oidcClientSubjects: undefined });
  t.is(await status(jwtOf(signer, claimsOf({ sub: 'bob' }))), 401);
  t.is(await own.outcome(OP.status), 'OK');
});

test('a request whose token is not taken any more when its body is there is refused', async (t) => {
  const { daemon, reload } = await served(t);
  const headers = { authorization: `Bearer ${jwtOf(signer)}`, 'content-length': 2, expect: '100-continue' };
  const asked = request({ socketPath: daemon.socket, method: 'POST', path: '/v1/keys', agent: false, headers });
  const answered = once(asked, 'response');
  asked.flushHeaders();
  await once(asked, 'continue');
  reload({ oidcClientSubjects: 'bob' });
  asked.end('{}');
  const [response] = (await answered) as [IncomingMessage];
  t.is(response.statusCode, 401);
  response.resume();
});

test('a request that ends while its caller is looked at is not waited for', async (t) => {
  const gone = new IncomingMessage(new Socket());
  gone.destroy();
  await once(gone, 'close');
  const held = { take: () => true, give: () => {} } as unknown as HeldBytes;
  await t.throwsAsync(
    withBody(gone, new Share(held), 'somebody', async () => t.fail()),
    { message: /the body was cut off$/ },
  );
});

test.serial('somebody unknown may come with a token where there is an issuer, however long it is', async (t) => {
  const issuer = new Issuer(oidcConfig({ file: keyFileIn(scratch(t), signer) }), () => {});
  const ofTcp = (address: string) =>
    new Authentication(ACCESS, undefined, issuer).ofPeer({ uid: NO_UID, gid: 0, pid: 0, address, port: 1 });
  t.is(ofTcp('127.0.0.1'), ANONYMOUS);
  t.is(ofTcp('192.0.2.1'), ANONYMOUS);
  t.is(ofTcp(''), undefined, 'a Unix socket has the kernel’s word');
  // Another uid is not to be had without root: the daemon is told that it does not know this one. No other test may run beside.
  const { daemon, status } = await served(t);
  const ofPeer = Reflect.get(Authentication.prototype, 'ofPeer');
  Authentication.prototype.ofPeer = () => ANONYMOUS;
  t.teardown(() => {
    Authentication.prototype.ofPeer = ofPeer;
  });
  const token = jwtOf(signer, claimsOf({ x: 'x'.repeat(5_500) }));
  t.true(token.length > 7_500 && token.length <= MAX_JWT_BYTES, `${token.length}`);
  t.is((await askHttp(daemon.ports[0]!, { path: '/v1/keys', body: {} })).status, 401);
  t.is(await status(token), 200);
  const peer = await Peer.connect(daemon.ports[0]!);
  t.teardown(() => peer.close());
  t.is(await peer.outcome(OP.createDek, null), 'UNAUTHENTICATED');
  // In two pieces, so that the daemon has to keep it.
  const { frame, answer } = peer.prepare(OP.hello, [1, token]);
  peer.write(frame.subarray(0, 100));
  t.is(await status(token), 200);
  peer.write(frame.subarray(100));
  t.is((await answer).error, undefined);
  t.is(await peer.outcome(OP.createDek, null), 'OK');
});

test('one token on many connections at once is verified once, and too many at once are told so', async (t) => {
  const issuer = new Issuer(oidcConfig({ file: keyFileIn(scratch(t), signer) }), () => {});
  const token = jwtOf(signer);
  const pending = Array.from({ length: MAX_JWTS_IN_FLIGHT * 2 }, () => issuer.identify(token));
  t.is(new Set(await Promise.all(pending)).size, 1);
  t.false(issuer.identify(token) instanceof Promise, 'it is remembered');
  const others = Array.from({ length: MAX_JWTS_IN_FLIGHT }, (_, index) => issuer.identify(jwtOf(signer, claimsOf({ index }))));
  t.throws(() => issuer.identify(jwtOf(signer, claimsOf({ index: 'more' }))), { code: 'BUSY' });
  t.false(issuer.identify(token) instanceof Promise, 'who is known is not kept');
  await Promise.all(others);
  await t.notThrowsAsync(async () => issuer.identify(jwtOf(signer, claimsOf({ index: 'more' }))));
});

test('who comes with many tokens that are forged takes nobody else’s turn', async (t) => {
  const { daemon } = await served(t);
  const [evil, honest] = [await Peer.connect(daemon.ports[0]!), await Peer.connect(daemon.ports[0]!)];
  t.teardown(() => Promise.all([evil.close(), honest.close()]));
  const forged = Array.from({ length: 100 }, (_, index) =>
    evil.prepare(OP.hello, [1, jwtOf({ ...stranger, kid: signer.kid }, claimsOf({ index }))]),
  );
  evil.write(...forged.map(({ frame }) => frame));
  t.is(await honest.outcome(OP.hello, 1, jwtOf(signer, claimsOf({ index: 'honest' }))), 'OK');
  const codes = (await Promise.all(forged.map(({ answer }) => answer))).map(({ error }) => error?.code);
  t.is(codes.filter((code) => code === 'UNAUTHENTICATED').length, MAX_JWTS_PER_CONNECTION);
  t.is(codes.filter((code) => code === 'BUSY').length, 100 - MAX_JWTS_PER_CONNECTION);
});

const KEYS: Array<[algorithms: string[], pair: { privateKey: KeyObject; publicKey: KeyObject }]> = [
  [['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'], generateKeyPairSync('rsa', { modulusLength: 2048 })],
  [['ES256'], generateKeyPairSync('ec', { namedCurve: 'P-256' })],
  [['ES384'], generateKeyPairSync('ec', { namedCurve: 'P-384' })],
  [['ES512'], generateKeyPairSync('ec', { namedCurve: 'P-521' })],
  [['EdDSA'], generateKeyPairSync('ed25519')],
];
for (const [algorithms, { privateKey, publicKey }] of KEYS) {
  for (const alg of algorithms) {
    test(`${alg} is verified where it is allowed, and nowhere else`, async (t) => {
      const jwk: Claims = { ...publicKey.export({ format: 'jwk' }), kid: 'k' };
      const file = keyFileIn(scratch(t), { ...signer, jwk });
      const payload = Buffer.from(JSON.stringify(claimsOf()));
      const token = await new CompactSign(payload).setProtectedHeader({ alg, kid: 'k' }).sign(privateKey);
      const issuer = new Issuer(oidcConfig({ file }, { algorithms: [alg] }), () => {});
      const identity = await issuer.identify(token);
      t.is(identity.actor, 'oidc:alice');
      t.true(issuer.isCurrent(identity));
      const algorithm = algorithms.find((one) => one !== alg);
      if (algorithm === undefined) return;
      const other = new Issuer(oidcConfig({ file }, { algorithms: [algorithm] }), () => {});
      await t.throwsAsync(async () => other.identify(token), { code: 'UNAUTHENTICATED' });
    });
  }
}
