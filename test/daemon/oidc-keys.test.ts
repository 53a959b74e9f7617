import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, chownSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { OidcConfig } from '../../dist/daemon/config/oidc.js';
import { Issuer } from '../../dist/daemon/oidc/issuer.js';
import { parseKeySet } from '../../dist/daemon/oidc/key-set.js';
import {
  JWKS_COOLDOWN_MS,
  JWKS_REFRESH_MS,
  JWKS_RETRY_MS,
  JWKS_STALE_MS,
  MAX_JWKS_BYTES,
  MAX_JWKS_KEYS,
  MAX_JWTS_AWAITING_KEYS,
  TOKEN_LOOK_MS,
} from '../../dist/limits.js';
import { claimsOf, jwtOf, keyFileIn, keySet, oidcConfig, type Signer, StoppedClock, seconds, signerOf } from './oidc-tokens.js';
import { scratch, settle } from './running.js';

const [one, two] = [signerOf('one'), signerOf('two')];

/** An issuer whose clock stands still, and what it logged. */
function issuerOf(keys: OidcConfig['keys']) {
  const clock = new StoppedClock();
  const events: string[] = [];
  const issuer = new Issuer(
    oidcConfig(keys),
    (_, event, fields) => events.push(`${event} ${fields?.['reason'] ?? ''}`.trim()),
    clock,
  );
  /** As what the token's caller goes on, or the code that it is refused with. */
  const outcome = async (token: string) => {
    try {
      return (await issuer.identify(token)).actor;
    } catch (error) {
      return (error as { code: string }).code;
    }
  };
  const tokenOf = (signer: Signer, sub = 'alice') =>
    jwtOf(signer, claimsOf({ sub, exp: seconds(clock.wall()) + 7_200 }, clock.wall()));
  return { clock, events, issuer, outcome, tokenOf };
}

/** What a key set is, and why it is refused. */
const { privateKey: weak } = generateKeyPairSync('rsa', { modulusLength: 1024 });
const WRONG: Array<[what: string, text: string, reason: RegExp]> = [
  ['no JSON', '{', /: not JSON$/],
  ['no set', '{"keys":{}}', /: not a JWK set$/],
  ['a key of its own', JSON.stringify(one.jwk), /: not a JWK set$/],
  ['a list of texts', '{"keys":["x"]}', /: not a JWK set$/],
  ['an empty set', '{"keys":[]}', /: holds no public key for ES256$/],
  ['keys of another curve', JSON.stringify({ keys: [{ ...one.jwk, crv: 'P-384' }] }), /: holds no public key/],
  ['a point that is on no curve', JSON.stringify({ keys: [{ ...one.jwk, x: one.jwk['y'] }] }), /: holds no public key/],
  ['keys for encryption', JSON.stringify({ keys: [{ ...one.jwk, use: 'enc' }] }), /: holds no public key/],
  ['keys for another algorithm', JSON.stringify({ keys: [{ ...one.jwk, alg: 'ES384' }] }), /: holds no public key/],
  [
    'a private key',
    JSON.stringify({ keys: [one.jwk, one.privateKey.export({ format: 'jwk' })] }),
    /: holds a private or secret key/,
  ],
  ['a secret', JSON.stringify({ keys: [one.jwk, { kty: 'oct', k: 'AAAA' }] }), /: holds a private or secret key/],
  ['too many keys', JSON.stringify({ keys: Array(MAX_JWKS_KEYS + 1).fill(one.jwk) }), /: more than 256 keys$/],
  ['too long', `${keySet(one)}${' '.repeat(MAX_JWKS_BYTES)}`, /: more than 262144 bytes$/],
];
for (const [what, text, reason] of WRONG) {
  test(`keys that are ${what} are refused, and nothing of them is repeated`, (t) => {
    const error = t.throws(() => parseKeySet('keys', Buffer.from(text), ['ES256']), {
      code: 'INVALID_ARGUMENT',
      message: reason,
    });
    t.true(error!.message.length < 100);
  });
}

test('a weak RSA key is of no use, and what is of none beside one that is changes nothing', (t) => {
  const { n, e } = weak.export({ format: 'jwk' });
  const rsa = { kty: 'RSA', n, e };
  t.throws(() => parseKeySet('keys', Buffer.from(JSON.stringify({ keys: [rsa] })), ['RS256']), {
    message: /no public key for RS256/,
  });
  const mixed = JSON.stringify({ keys: [rsa, { kty: 'new' }, { ...one.jwk, kid: undefined, use: 'enc' }, one.jwk] });
  t.is(parseKeySet('keys', Buffer.from(mixed), ['RS256', 'ES256']).fingerprints.size, 1);
});

test('a file that is not there, not for us, or wrong stops the start, and one line names it', (t) => {
  const directory = scratch(t);
  const path = join(directory, 'jwks.json');
  const start = () => issuerOf({ file: path });
  t.throws(start, { code: 'INVALID_ARGUMENT', message: `invalid argument: oidc.jwks_file: ${path} cannot be read: ENOENT` });
  mkdirSync(path);
  t.throws(start, { message: / is not a regular file$/ });
  rmSync(path, { recursive: true });
  keyFileIn(directory, one);
  t.notThrows(start);
  for (const mode of [0o664, 0o646]) {
    chmodSync(path, mode);
    t.throws(start, { message: `permission denied: oidc.jwks_file: ${path} is open to others: chmod go-w ${path}` });
  }
  chmodSync(path, 0o644);
  // Only root can make a file of somebody else.
  const own = process.geteuid?.() ?? -1;
  if (own === 0) {
    chownSync(path, 12_345, -1);
    t.throws(start, { message: `permission denied: oidc.jwks_file: ${path} belongs to uid 12345: chown 0 ${path}` });
    chownSync(path, 0, -1);
  } else t.log('SKIPPED: without root no file belongs to somebody else');
  writeFileSync(path, '{}');
  t.throws(start, { message: `invalid argument: oidc.jwks_file: ${path}: not a JWK set` });
  rmSync(path);
  writeFileSync(join(directory, 'data'), keySet(one), { mode: 0o444 });
  symlinkSync('data', path);
  t.notThrows(start, 'mounted files are links');
});

test('a file that is replaced holds from the next look on, for tokens that are remembered too', async (t) => {
  const directory = scratch(t);
  const { clock, issuer, outcome, tokenOf } = issuerOf({ file: keyFileIn(directory, one) });
  const [old, young] = [tokenOf(one), tokenOf(two)];
  t.deepEqual([await outcome(old), await outcome(young)], ['oidc:alice', 'UNAUTHENTICATED']);
  const identity = await issuer.identify(old);
  writeFileSync(join(directory, 'next'), keySet(one, two), { mode: 0o644 });
  renameSync(join(directory, 'next'), join(directory, 'jwks.json'));
  clock.advance(TOKEN_LOOK_MS);
  t.deepEqual([await outcome(old), await outcome(young)], ['oidc:alice', 'oidc:alice']);
  t.true(issuer.isCurrent(identity), 'its key stayed');
  keyFileIn(directory, two);
  t.true(issuer.isCurrent(identity), 'until the next look');
  clock.advance(TOKEN_LOOK_MS);
  t.false(issuer.isCurrent(identity));
  t.deepEqual([await outcome(old), await outcome(young)], ['UNAUTHENTICATED', 'oidc:alice']);
});

test('a key that keeps its name and is another one is another one', async (t) => {
  const directory = scratch(t);
  const { clock, issuer, outcome, tokenOf } = issuerOf({ file: keyFileIn(directory, one) });
  const token = tokenOf(one);
  const identity = await issuer.identify(token);
  keyFileIn(directory, { ...two, jwk: { ...two.jwk, kid: 'one' } });
  clock.advance(TOKEN_LOOK_MS);
  t.false(issuer.isCurrent(identity));
  t.is(await outcome(token), 'UNAUTHENTICATED');
});

test('keys that can no longer be read go on being used for an hour, which is logged once', async (t) => {
  const directory = scratch(t);
  const { clock, events, outcome, tokenOf } = issuerOf({ file: keyFileIn(directory, one) });
  const path = join(directory, 'jwks.json');
  writeFileSync(path, '{"keys":[');
  for (const passed of [TOKEN_LOOK_MS, TOKEN_LOOK_MS, JWKS_STALE_MS - 3 * TOKEN_LOOK_MS]) {
    clock.advance(passed);
    t.is(await outcome(tokenOf(one)), 'oidc:alice');
  }
  clock.advance(2 * TOKEN_LOOK_MS);
  t.is(await outcome(tokenOf(one)), 'UNAUTHENTICATED');
  t.deepEqual(events, [`oidc_keys_unavailable invalid argument: oidc.jwks_file: ${path}: not JSON`, 'jwt_refused no key']);
  keyFileIn(directory, one);
  clock.advance(TOKEN_LOOK_MS);
  t.is(await outcome(tokenOf(one)), 'oidc:alice');
  t.is(events.at(-1), 'oidc_keys_read');
});

/** A server of keys on loopback that answers as it is told. */
async function serverOf(t: ExecutionContext, answer: (response: ServerResponse, request: IncomingMessage) => void) {
  let asked = 0;
  const now = { answer };
  const server = createServer((request, response) => {
    asked++;
    now.answer(response, request);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  const { port } = server.address() as AddressInfo;
  return { now, url: `http://127.0.0.1:${port}/jwks`, asked: () => asked };
}

const answering =
  (...signers: Signer[]) =>
  (response: ServerResponse) =>
    response.end(keySet(...signers));

test('keys behind a URL are fetched for the first token, and again for a key that is not among them, seldom', async (t) => {
  const { now, url, asked } = await serverOf(t, answering(one));
  const { clock, issuer, outcome, tokenOf } = issuerOf({ url });
  t.is(asked(), 0);
  const outcomes = await Promise.all(['a', 'b', 'alice'].map((sub) => outcome(tokenOf(one, sub))));
  t.deepEqual(outcomes, ['PERMISSION_DENIED', 'PERMISSION_DENIED', 'oidc:alice']);
  t.is(asked(), 1);
  const old = await issuer.identify(tokenOf(one));
  now.answer = answering(two);
  t.is(await outcome(tokenOf(two)), 'UNAUTHENTICATED', 'they were fetched a moment ago');
  t.is(asked(), 1);
  clock.advance(JWKS_COOLDOWN_MS);
  t.is(await outcome(tokenOf(two)), 'oidc:alice');
  t.is(asked(), 2);
  t.false(issuer.isCurrent(old), 'its key is gone');
  t.is(await outcome(tokenOf(one)), 'UNAUTHENTICATED');
});

test('a key that is withdrawn is missed while no token comes, once there was one', async (t) => {
  const { now, url, asked } = await serverOf(t, answering(one));
  const { clock, issuer, tokenOf } = issuerOf({ url });
  clock.advance(2 * JWKS_REFRESH_MS);
  issuer.sweep();
  const identity = await issuer.identify(tokenOf(one));
  t.is(asked(), 1);
  now.answer = answering(two);
  clock.advance(JWKS_REFRESH_MS + 1);
  issuer.sweep();
  while (issuer.isCurrent(identity)) await settle();
  t.is(asked(), 2);
});

test('old keys are fetched again beside the tokens, and used for an hour if that fails', async (t) => {
  const { now, url, asked } = await serverOf(t, answering(one));
  const { clock, events, issuer, outcome, tokenOf } = issuerOf({ url });
  const identity = await issuer.identify(tokenOf(one));
  now.answer = (response) => response.writeHead(500).end();
  clock.advance(JWKS_REFRESH_MS);
  issuer.sweep();
  clock.advance(1);
  issuer.sweep();
  t.is(await outcome(tokenOf(one)), 'oidc:alice');
  while (events.length === 0) await settle();
  t.deepEqual(events, ['oidc_keys_unavailable status 500']);
  t.is(asked(), 2);
  t.is(await outcome(tokenOf(one, 'root')), 'oidc:root');
  issuer.sweep();
  await settle();
  t.is(asked(), 2, 'it is left alone for a while');
  clock.advance(JWKS_STALE_MS - JWKS_REFRESH_MS - 2);
  t.true(issuer.isCurrent(identity));
  clock.advance(1);
  t.false(issuer.isCurrent(identity));
  t.is(await outcome(tokenOf(one)), 'UNAUTHENTICATED');
  t.is(asked(), 3);
  now.answer = answering(one);
  clock.advance(JWKS_RETRY_MS);
  t.is(await outcome(tokenOf(one)), 'oidc:alice');
  t.is(events.filter((event) => event === 'oidc_keys_read').length, 1);
});

test('tokens that wait for keys that do not come are bounded, and keep nobody else', async (t) => {
  const { now, url } = await serverOf(t, answering(one));
  const { clock, events, outcome, tokenOf } = issuerOf({ url });
  t.is(await outcome(tokenOf(one)), 'oidc:alice');
  const held: ServerResponse[] = [];
  now.answer = (response) => held.push(response);
  clock.advance(JWKS_COOLDOWN_MS);
  const outcomes = Array.from({ length: MAX_JWTS_AWAITING_KEYS + 3 }, (_, index) => outcome(tokenOf(two, `s${index}`)));
  const refused = await Promise.all(outcomes.slice(MAX_JWTS_AWAITING_KEYS));
  t.deepEqual(refused, ['BUSY', 'BUSY', 'BUSY']);
  t.is(await outcome(tokenOf(one, 'root')), 'oidc:root', 'its key is there');
  t.deepEqual([...new Set(await Promise.all(outcomes.slice(0, MAX_JWTS_AWAITING_KEYS)))], ['UNAUTHENTICATED']);
  t.is(held.length, 1);
  t.true(events.includes('oidc_keys_unavailable time-out'));
});

function endless(response: ServerResponse): void {
  const more = () => {
    while (!response.destroyed && response.write(' '.repeat(65_536)));
  };
  response.on('drain', more);
  more();
}

const BAD_ANSWERS: Array<[what: string, answer: (response: ServerResponse) => void, reason: RegExp]> = [
  ['a redirect', (response) => response.writeHead(302, { location: '/jwks' }).end(), /status 302$/],
  ['more than its due', endless, /more than 262144 bytes$/],
  ['something else', (response) => response.end('<html>'), /not JSON$/],
  ['a private key', (response) => response.end(JSON.stringify({ keys: [one.privateKey.export({ format: 'jwk' })] })), /private/],
  [
    'the half',
    (response) => response.writeHead(200, { 'content-length': 999 }).write('{', () => response.destroy()),
    /cut off|ECONNRESET$/,
  ],
  ['nothing', (response) => response.destroy(), /ECONNRESET$/],
];
for (const [what, answer, reason] of BAD_ANSWERS) {
  test(`keys of a server that answers with ${what} are none`, async (t) => {
    const { url } = await serverOf(t, answer);
    const { events, outcome, tokenOf } = issuerOf({ url });
    t.is(await outcome(tokenOf(one)), 'UNAUTHENTICATED');
    t.regex(events[0]!, reason);
    t.is(events[1], 'jwt_refused no key');
  });
}

test('a look that somebody asks for reads keys at once and forgets tokens, and one that fails changes nothing', async (t) => {
  const directory = scratch(t);
  const file = keyFileIn(directory, one);
  const { issuer, outcome, tokenOf } = issuerOf({ file });
  const token = tokenOf(one);
  const identity = await issuer.identify(token);
  t.is(issuer.identify(token), identity, 'remembered');
  t.is(
    issuer.renewed(oidcConfig({ file }), () => {}),
    issuer,
  );
  t.true(issuer.isCurrent(identity), 'whoever holds it goes on');
  t.not(await issuer.identify(token), identity);
  writeFileSync(file, '{}');
  t.throws(() => issuer.renewed(oidcConfig({ file }), () => {}), { message: /not a JWK set$/ });
  t.is(await outcome(token), 'oidc:alice');
  keyFileIn(directory, two);
  t.is(
    issuer.renewed(oidcConfig({ file }), () => {}),
    issuer,
  );
  t.is(await outcome(token), 'UNAUTHENTICATED');
  const other = issuer.renewed(oidcConfig({ file }, { clockSkewSeconds: 0 }), () => {});
  t.not(other, issuer);
  t.false(other.isCurrent(identity));
});
