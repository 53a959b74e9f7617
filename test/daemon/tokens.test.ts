import crypto from 'node:crypto';
import { chmodSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { createToken, type NewToken, revokeToken } from '../../dist/daemon/token-writer.js';
import { type TokenChange, Tokens } from '../../dist/daemon/tokens.js';
import { ACTOR_PATTERN, TOKEN_LOOK_MS } from '../../dist/limits.js';
import { nodeFileSystem } from '../../dist/store/file-system.js';
import { newDataDir } from '../store/data-dir.js';

const CLIENT: NewToken = { roles: ['client'] };
const DAY_MS = 24 * 3_600_000;

/** Time that passes when it is told to. */
class Hands {
  private at = 0;

  wall = () => Date.now() + this.at;
  steady = () => this.at;

  pass(milliseconds: number): void {
    this.at += milliseconds;
  }
}

interface Opened {
  dataDir: string;
  path: string;
  hands: Hands;
  tokens: Tokens;
}

function opened(t: ExecutionContext): Opened {
  const dataDir = newDataDir(t);
  const hands = new Hands();
  return { dataDir, path: join(dataDir, 'tokens.json'), hands, tokens: new Tokens(dataDir, hands) };
}

/** The text with one character changed, in the alphabet. */
function changed(token: string, at: number): string {
  return token.slice(0, at) + (token[at] === '0' ? '1' : '0') + token.slice(at + 1);
}

test('a token is known by its text, with what it was given', async (t) => {
  const { dataDir, tokens } = opened(t);
  const plain = await createToken(dataDir, { roles: ['client', 'auditor'] });
  const narrow = await createToken(dataDir, { ...CLIENT, threadPrefixes: ['chat/', 'mail/'], own: true });
  t.deepEqual(tokens.identify(plain.token), {
    actor: `token:${plain.tokenId}`,
    roles: new Set(['client', 'auditor'] as const),
  });
  t.deepEqual(tokens.identify(narrow.token), {
    actor: `token:${narrow.tokenId}`,
    roles: new Set(['client'] as const),
    threadPrefixes: ['chat/', 'mail/'],
    own: true,
  });
  t.regex(tokens.identify(plain.token)!.actor, ACTOR_PATTERN);
  t.regex(plain.token, /^kms_[0-9a-f]{16}_[A-Za-z0-9_-]{43}$/);
  t.is(tokens.count(), 2);
  t.is(tokens.fault(), null);
});

test('without a file there are no tokens, and nothing is wrong', async (t) => {
  const { dataDir, tokens } = opened(t);
  const elsewhere = await createToken(newDataDir(t), CLIENT);
  t.is(tokens.identify(elsewhere.token), undefined);
  t.is(tokens.fault(), null);
  t.is(new Tokens(join(dataDir, 'none')).fault(), null);
});

test('any other text is refused, and none throws', async (t) => {
  const { dataDir, tokens } = opened(t);
  const { token, tokenId } = await createToken(dataDir, CLIENT);
  const other = await createToken(dataDir, CLIENT);
  const texts = [
    '',
    'kms_',
    tokenId,
    `${token}\n`,
    ` ${token}`,
    token.toUpperCase(),
    token.slice(0, -1),
    `${token}A`,
    `kms_${tokenId}_${'é'.repeat(43)}`,
    token.slice(0, 21) + other.token.slice(21),
    'x'.repeat(1_000_000),
    ...[4, 19, 21, 40, 62].map((at) => changed(token, at)),
  ];
  for (const text of texts) t.is(tokens.identify(text), undefined, text.slice(0, 80));
  t.truthy(tokens.identify(token), 'the text itself is taken');
});

test('a token has one text: a last character that stands for the same bytes is refused', async (t) => {
  const { dataDir, tokens } = opened(t);
  const { token } = await createToken(dataDir, CLIENT);
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  const twin = token.slice(0, -1) + alphabet[alphabet.indexOf(token.at(-1)!) + 1];
  t.deepEqual(Buffer.from(twin.slice(21), 'base64url'), Buffer.from(token.slice(21), 'base64url'), 'it stands for the same');
  t.is(tokens.identify(twin), undefined);
});

test('the hash is compared once in constant time, for an id that is not known as for one that is', async (t) => {
  const { dataDir, tokens } = opened(t);
  const { token } = await createToken(dataDir, CLIENT);
  const real = crypto.timingSafeEqual;
  const lengths: number[][] = [];
  crypto.timingSafeEqual = (a, b) => {
    lengths.push([a.byteLength, b.byteLength]);
    return real(a, b);
  };
  syncBuiltinESMExports();
  try {
    for (const text of [token, changed(token, 40), changed(token, 10)]) tokens.identify(text);
  } finally {
    crypto.timingSafeEqual = real;
    syncBuiltinESMExports();
  }
  t.deepEqual(lengths, [
    [32, 32],
    [32, 32],
    [32, 32],
  ]);
});

test('a token is refused from the time on at which it expires', async (t) => {
  const { dataDir, hands, tokens } = opened(t);
  const { token } = await createToken(dataDir, { ...CLIENT, lifeMs: DAY_MS });
  const identity = tokens.identify(token)!;
  hands.pass(DAY_MS - 60_000);
  t.is(tokens.identify(token), identity);
  t.true(tokens.isCurrent(identity));
  hands.pass(60_000);
  t.is(tokens.identify(token), undefined);
  t.false(tokens.isCurrent(identity));
  t.is(tokens.count(), 0);
});

test('tokens made and revoked later are seen without opening anew, and the others keep their identity', async (t) => {
  const { dataDir, hands, tokens } = opened(t);
  const kept = await createToken(dataDir, CLIENT);
  const identity = tokens.identify(kept.token)!;
  for (let round = 0; round < 20; round += 1) {
    const made = await createToken(dataDir, { roles: ['admin'] });
    hands.pass(TOKEN_LOOK_MS);
    const held = tokens.identify(made.token);
    t.is(held?.actor, `token:${made.tokenId}`);
    await revokeToken(dataDir, made.tokenId);
    t.true(tokens.isCurrent(held!), 'until the next look');
    hands.pass(TOKEN_LOOK_MS);
    t.false(tokens.isCurrent(held!));
    t.is(tokens.identify(made.token), undefined);
    t.is(tokens.identify(kept.token), identity);
    t.true(tokens.isCurrent(identity));
  }
});

test('a token whose roles were changed has another identity', async (t) => {
  const { dataDir, path, hands, tokens } = opened(t);
  const { token } = await createToken(dataDir, { roles: ['admin'] });
  const identity = tokens.identify(token)!;
  writeFileSync(path, readFileSync(path, 'utf8').replace('"admin"', '"client"'));
  hands.pass(TOKEN_LOOK_MS);
  t.false(tokens.isCurrent(identity));
  t.deepEqual([...tokens.identify(token)!.roles], ['client']);
});

test('a file that changed a moment ago is read at every look, since it may change again and look the same; then no more', async (t) => {
  const { dataDir, path, hands } = opened(t);
  const { token } = await createToken(dataDir, CLIENT);
  const reads: string[] = [];
  const openSync: typeof nodeFileSystem.openSync = (...args) => {
    reads.push(args[0]);
    return nodeFileSystem.openSync(...args);
  };
  const tokens = new Tokens(dataDir, hands, { ...nodeFileSystem, openSync });
  const look = (times: number) => {
    reads.length = 0;
    for (let looked = 0; looked < times; looked += 1) {
      hands.pass(TOKEN_LOOK_MS);
      t.truthy(tokens.identify(token));
      t.truthy(tokens.identify(token));
    }
    return reads;
  };
  // The file is of now; an hour before, it is newer than the clock.
  hands.pass(-3_600_000);
  t.deepEqual(look(3), [path, path, path]);
  hands.pass(2 * 3_600_000);
  t.deepEqual(look(3), [path]);
});

test('a file that cannot be trusted any more refuses every token until it is mended, and says why', async (t) => {
  const { dataDir, path, hands, tokens } = opened(t);
  const { token } = await createToken(dataDir, CLIENT);
  t.truthy(tokens.identify(token));
  const good = readFileSync(path);
  const mended = () => {
    writeFileSync(path, good);
    chmodSync(path, 0o600);
  };
  for (const [spoil, reason] of [
    [() => writeFileSync(path, good.subarray(1)), /tokens\.json: not JSON$/],
    [() => chmodSync(path, 0o640), /tokens\.json has mode 0640; run: chmod 600 /],
    [() => writeFileSync(path, '{"format": 2, "more": []}'), /format 2 is newer than this version knows$/],
  ] as const) {
    spoil();
    hands.pass(TOKEN_LOOK_MS);
    t.is(tokens.identify(token), undefined);
    t.regex(tokens.fault() ?? '', reason);
    mended();
    hands.pass(TOKEN_LOOK_MS);
    t.truthy(tokens.identify(token));
    t.is(tokens.fault(), null);
  }
  rmSync(path);
  hands.pass(TOKEN_LOOK_MS);
  t.is(tokens.identify(token), undefined);
  t.is(tokens.fault(), null, 'no file is no tokens');
});

test('what comes and goes while it is watched is told once, also over a file that could not be read in between', async (t) => {
  const dataDir = newDataDir(t);
  const path = join(dataDir, 'tokens.json');
  const hands = new Hands();
  await createToken(dataDir, CLIENT);
  const told: TokenChange[] = [];
  const tokens = new Tokens(dataDir, hands, nodeFileSystem, (change) => told.push(change) > 0);
  const look = () => {
    hands.pass(TOKEN_LOOK_MS);
    return tokens.count();
  };
  t.is(look(), 1);
  t.deepEqual(told, [], 'what was there before is no change');
  const made = await createToken(dataDir, { roles: ['client', 'auditor'] });
  const sound = readFileSync(path);
  writeFileSync(path, '{');
  t.is(look(), 0);
  writeFileSync(path, sound);
  t.is(look(), 2);
  const createdBy = `uid:${process.getuid?.()}`;
  t.deepEqual(told.splice(0), [{ tokenId: made.tokenId, change: 'created', roles: ['client', 'auditor'], createdBy }]);
  await revokeToken(dataDir, made.tokenId);
  look();
  look();
  t.like(told, [{ tokenId: made.tokenId, change: 'revoked' }]);
  t.is(told.length, 1);
});

test('a token that is made before any is used, or while nobody can be told, is told all the same, once', async (t) => {
  const dataDir = newDataDir(t);
  const hands = new Hands();
  const told: string[] = [];
  let isSealed = true;
  const tokens = new Tokens(dataDir, hands, nodeFileSystem, ({ tokenId }) => !isSealed && told.push(tokenId) > 0);
  const look = () => {
    hands.pass(TOKEN_LOOK_MS);
    return tokens.count();
  };
  const first = await createToken(dataDir, CLIENT);
  hands.pass(DAY_MS);
  t.is(look(), 1);
  t.is(look(), 1);
  t.deepEqual(told, []);
  isSealed = false;
  look();
  look();
  t.deepEqual(told, [first.tokenId]);
});
