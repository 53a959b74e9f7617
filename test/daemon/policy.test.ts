import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import type { Identity } from '../../dist/daemon/identity.js';
import { Policy } from '../../dist/daemon/policy.js';
import { createToken, type NewToken, revokeToken } from '../../dist/daemon/token-writer.js';
import { MAX_REMEMBERED_POLICIES, TOKEN_LOOK_MS } from '../../dist/limits.js';
import { binding } from '../../dist/native.js';
import type { KeyDescription } from '../../dist/provider.js';
import { OP } from '../../dist/wire/frames.js';
import type { Peer } from './peer.js';
import { running } from './running.js';

const X = Buffer.from('x');

/** A daemon, and connections that have come with a token each. */
async function served(t: ExecutionContext) {
  const { daemon, directory, connect } = await running(t, {});
  const dataDir = join(directory, 'data');
  const token = async (wanted: Partial<NewToken>) => {
    const made = await createToken(dataDir, { roles: ['client'], ...wanted });
    await delay(TOKEN_LOOK_MS + 50);
    return made;
  };
  const greeted = async (text: string) => {
    const peer = await connect();
    t.is(await peer.outcome(OP.hello, 1, text), 'OK');
    return peer;
  };
  const evict = (key: string) => binding.retireKey(daemon.kms.space, key, 'evicted');
  return { daemon, dataDir, token, greeted, evict };
}

async function keyOf(peer: Peer, thread: string): Promise<string> {
  return (await peer.ask(OP.createDekForThread, thread)).results[0] as string;
}

/** What becomes of a key on every path that a request can take. */
async function outcomes(peer: Peer, key: string): Promise<string[]> {
  return [
    ...new Set([
      await peer.outcome(OP.encrypt, key, X, null),
      await peer.outcome(OP.encryptMany, key, [X, X], null),
      await peer.outcome(OP.encrypt, key, Buffer.alloc(300_000), null),
    ]),
  ];
}

function counted(t: ExecutionContext): () => number {
  const { checkKey } = Policy.prototype;
  let calls = 0;
  Policy.prototype.checkKey = function (this: Policy, ...args) {
    calls++;
    return checkKey.apply(this, args);
  };
  t.teardown(() => {
    Policy.prototype.checkKey = checkKey;
  });
  return () => calls;
}

test.serial('the policy is asked once for a key, and the rest is served without it', async (t) => {
  const { token, greeted, evict } = await served(t);
  const peer = await greeted((await token({ threadPrefixes: ['chat/'] })).token);
  const keys = [await keyOf(peer, 'chat/1'), await keyOf(peer, 'chat/2')];
  const calls = counted(t);
  for (const key of keys) t.is(await peer.outcome(OP.encrypt, key, X, null), 'OK');
  t.is(calls(), keys.length);
  for (let round = 0; round < 20; round++) {
    for (const key of keys) {
      const [sealed] = (await peer.ask(OP.encrypt, key, X, null)).results;
      t.deepEqual((await peer.ask(OP.decrypt, key, sealed, null)).results, [X]);
      t.is(await peer.outcome(OP.encryptMany, key, [X, X], null), 'OK');
    }
  }
  t.is(calls(), keys.length);
  evict(keys[0]!);
  t.is(await peer.outcome(OP.encrypt, keys[0]!, X, null), 'OK');
  t.is(calls(), keys.length + 1, 'a key that is loaded again is asked about again');
});

test.serial('one identity’s key serves no other, served or not, evicted and back, on every path', async (t) => {
  const { token, greeted, evict } = await served(t);
  const [mine, other] = [await greeted((await token({ own: true })).token), await greeted((await token({ own: true })).token)];
  const keys = { mine: await keyOf(mine, 'chat/1'), other: await keyOf(other, 'chat/1') };
  for (let round = 0; round < 3; round++) {
    t.deepEqual(await outcomes(mine, keys.mine), ['OK']);
    t.deepEqual(await outcomes(other, keys.mine), ['PERMISSION_DENIED']);
    t.deepEqual(await outcomes(other, keys.other), ['OK']);
    t.deepEqual(await outcomes(mine, keys.other), ['PERMISSION_DENIED']);
    if (round === 1) for (const key of Object.values(keys)) evict(key);
  }
});

test.serial('a connection that becomes somebody else is served as that one from there on', async (t) => {
  const { token, greeted } = await served(t);
  const first = await token({ own: true });
  const second = await token({ own: true });
  const broad = await token({});
  const peer = await greeted(first.token);
  const key = await keyOf(peer, 'chat/1');
  t.deepEqual(await outcomes(peer, key), ['OK']);
  t.is(await peer.outcome(OP.hello, 1, second.token), 'OK');
  t.deepEqual(await outcomes(peer, key), ['PERMISSION_DENIED']);
  const own = await keyOf(peer, 'chat/1');
  t.deepEqual(await outcomes(peer, own), ['OK']);
  t.is(await peer.outcome(OP.hello, 1, broad.token), 'OK');
  t.deepEqual(await outcomes(peer, key), ['OK']);
  t.is(await peer.outcome(OP.hello, 1, first.token), 'OK');
  t.deepEqual([await outcomes(peer, key), await outcomes(peer, own)], [['OK'], ['PERMISSION_DENIED']]);
});

test.serial(
  'a token that is made again for other threads starts from nothing, and a new connection of the old goes on',
  async (t) => {
    const { dataDir, token, greeted } = await served(t);
    const before = await token({ name: 'app', threadPrefixes: ['chat/'] });
    const peer = await greeted(before.token);
    const key = await keyOf(peer, 'chat/1');
    t.deepEqual(await outcomes(peer, key), ['OK']);
    t.deepEqual(await outcomes(await greeted(before.token), key), ['OK']);
    await revokeToken(dataDir, before.tokenId);
    const after = await greeted((await token({ name: 'app', threadPrefixes: ['mail/'] })).token);
    t.deepEqual(await outcomes(after, key), ['PERMISSION_DENIED']);
    t.deepEqual(await outcomes(after, await keyOf(after, 'mail/1')), ['OK']);
  },
);

test.serial('a key that is disabled or destroyed says so to those who may use it, and to no others', async (t) => {
  const { daemon, token, greeted } = await served(t);
  const mine = await greeted((await token({ own: true })).token);
  const other = await greeted((await token({ own: true })).token);
  const key = await keyOf(mine, 'chat/1');
  t.deepEqual(await outcomes(mine, key), ['OK']);
  for (const [state, code] of [
    ['disabled', 'KEY_DISABLED'],
    ['active', 'OK'],
    ['disabled', 'KEY_DISABLED'],
    ['destroyed', 'KEY_DESTROYED'],
  ] as const) {
    await daemon.kms.setKeyState(key, state);
    t.deepEqual(await outcomes(mine, key), [code]);
    t.deepEqual(await outcomes(other, key), ['PERMISSION_DENIED']);
  }
});

test('identities that are for the same share a number, others have their own', (t) => {
  const policy = new Policy(async () => ({}) as KeyDescription);
  const roles: Identity['roles'] = new Set(['client']);
  const number = (change: Partial<Identity>) => policy.numberOf({ actor: 'token:a', roles, ...change });
  const chat = number({ threadPrefixes: ['chat/'] });
  t.true(chat > 0);
  t.is(number({ actor: 'token:b', threadPrefixes: ['chat/'] }), chat);
  const numbers = [
    chat,
    number({ threadPrefixes: ['mail/'] }),
    number({ threadPrefixes: ['chat/'], own: true }),
    number({ actor: 'token:b', threadPrefixes: ['chat/'], own: true }),
    number({ own: true }),
  ];
  t.is(new Set(numbers).size, numbers.length);
});

test('what is remembered is bounded, and who asks for very many keys does not make others forget theirs', async (t) => {
  const asked: string[] = [];
  const policy = new Policy(async (keyId) => {
    asked.push(keyId);
    return { threadId: 'chat/1', createdBy: 'token:a' } as KeyDescription;
  });
  const roles: Identity['roles'] = new Set(['client']);
  const modest = { actor: 'token:a', roles, threadPrefixes: ['chat/'] };
  const greedy = { actor: 'token:a', roles, own: true };
  await policy.checkKey(modest, 'k_modest');
  for (let i = 0; i <= MAX_REMEMBERED_POLICIES / 4; i++) await policy.checkKey(greedy, `k_${i}`);
  asked.length = 0;
  await policy.checkKey(modest, 'k_modest');
  t.deepEqual(asked, []);
  await policy.checkKey(greedy, 'k_0');
  t.deepEqual(asked, ['k_0']);
});

test('what was found of a key in one database says nothing of the same id in another, or outside', async (t) => {
  const key = (createdBy: string) => ({ threadId: 'thread', createdBy }) as KeyDescription;
  const identity: Identity = { actor: 'uid:1', roles: new Set(['client']), own: true };
  const policy = new Policy(async () => key('uid:2'));
  const inside = (databaseId: string, createdBy: string) => ({ databaseId, describeKey: async () => key(createdBy) });
  for (let round = 0; round < 2; round++) {
    await t.notThrowsAsync(policy.checkKey(identity, 'k_1', inside('a', 'uid:1')));
    await t.throwsAsync(policy.checkKey(identity, 'k_1', inside('b', 'uid:2')));
    await t.throwsAsync(policy.checkKey(identity, 'k_1'));
  }
});
