import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { Authentication } from '../../dist/daemon/authentication.js';
import { ANONYMOUS } from '../../dist/daemon/identity.js';
import type { RateLimits } from '../../dist/daemon/rates.js';
import { createToken } from '../../dist/daemon/token-writer.js';
import { TOKEN_LOOK_MS } from '../../dist/limits.js';
import { OP } from '../../dist/wire/frames.js';
import { askHttp, codeOf } from './http-peer.js';
import type { Peer } from './peer.js';
import { configIn, running } from './running.js';
import { settled } from './settled.js';

const X = Buffer.from('x');

/** A daemon with these limits, and two identities: each of which may come over either protocol. */
async function limited(t: ExecutionContext, rates: Partial<RateLimits>) {
  const limits: RateLimits = { requestsPerSecond: 0, bytesPerSecond: 0, burstMs: 1_000, ...rates };
  const { daemon, directory, connect, events } = await running(t, {}, { rates: limits });
  const key = (await daemon.kms.createDek()).keyId;
  const tokens: string[] = [];
  for (const name of ['one', 'other'])
    tokens.push((await createToken(join(directory, 'data'), { name, roles: ['client'] })).token);
  await delay(TOKEN_LOOK_MS + 50);
  const greeted = async (which: number) => {
    const peer = await connect();
    t.is(await peer.outcome(OP.hello, 1, tokens[which]), 'OK');
    return peer;
  };
  const http = (which: number, plaintexts?: string[]) =>
    askHttp(daemon.socket, {
      path: plaintexts === undefined ? '/encrypt' : '/v1/encrypt_many',
      body: { key_id: key, ...(plaintexts === undefined ? { plaintext: 'eA==' } : { plaintexts }) },
      headers: { authorization: `Bearer ${tokens[which]}` },
    });
  const replace = (change: Partial<RateLimits>) => daemon.prepare({ ...configIn(directory), rates: { ...limits, ...change } })();
  return { daemon, key, events, connect, greeted, http, replace, tokens };
}

/** Sends all of them in one write; what became of each. */
async function flood(peer: Peer, key: string, count: number): Promise<string[]> {
  const parts = Array.from({ length: count }, () => peer.prepare(OP.encrypt, [key, X, null]));
  peer.write(...parts.map(({ frame }) => frame));
  return (await Promise.all(parts.map(({ answer }) => answer))).map(({ error }) => error?.code ?? 'OK');
}

function countOf(codes: string[], code: string): number {
  return codes.filter((one) => one === code).length;
}

test.serial('what one nobody owes does not keep the rest of another’s hello from being read', async (t) => {
  const { connect, tokens } = await limited(t, { requestsPerSecond: 1, burstMs: 0 });
  const ofPeer = Reflect.get(Authentication.prototype, 'ofPeer');
  Authentication.prototype.ofPeer = () => ANONYMOUS;
  t.teardown(() => {
    Authentication.prototype.ofPeer = ofPeer;
  });
  const [greedy, other] = [await connect(), await connect()];
  const asked = Array.from({ length: 60 }, () => greedy.prepare(OP.hello, [1, 'none']));
  greedy.write(...asked.map(({ frame }) => frame));
  await Promise.all(asked.map(({ answer }) => answer));
  const { frame, answer } = other.prepare(OP.hello, [1, tokens[0]]);
  other.write(frame.subarray(0, 20));
  await delay(50);
  other.write(frame.subarray(20));
  t.is(
    await Promise.race([
      answer.then(({ error }) => error?.code ?? 'OK'),
      delay(30_000, undefined, { ref: false }).then(() => 'not read'),
    ]),
    'OK',
  );
});

test('who asks beyond its rate is answered BUSY for what it cannot wait for, and nobody else is', async (t) => {
  const { key, events, greeted } = await limited(t, { requestsPerSecond: 100, burstMs: 500 });
  const [one, other] = [await greeted(0), await greeted(1)];
  const flooded = flood(one, key, 500);
  t.deepEqual(await Promise.all(Array.from({ length: 20 }, () => other.outcome(OP.encrypt, key, X, null))), Array(20).fill('OK'));
  const codes = await flooded;
  t.is(countOf(codes, 'OK') + countOf(codes, 'BUSY'), 500);
  t.true(countOf(codes, 'OK') >= 100, `${countOf(codes, 'OK')}`);
  t.true(countOf(codes, 'BUSY') >= 200, `${countOf(codes, 'BUSY')}`);
  await settled(() => events.some(({ event }) => event === 'over_rate'));
  // A connection of an identity that owes much: it is greeted at once.
  t.is(await (await greeted(0)).outcome(OP.hello, 1, null), 'OK');
});

test('a client that has many requests under way is held back, and none of them is refused', async (t) => {
  const { key, greeted } = await limited(t, { requestsPerSecond: 400, burstMs: 0 });
  const peers = [await greeted(0), await greeted(0)];
  const began = performance.now();
  const window = async (peer: Peer) => {
    for (let round = 0; round < 10; round++) t.deepEqual(await flood(peer, key, 20), Array(20).fill('OK'));
  };
  await Promise.all(peers.map(window));
  // The last chunk of each is answered before it is paid for.
  t.true(performance.now() - began >= (400 - 2 * 20 - 2) / 0.4 - 50);
});

test('bytes are held back as requests are', async (t) => {
  const { key, greeted } = await limited(t, { bytesPerSecond: 1_000_000, burstMs: 0 });
  const peer = await greeted(0);
  const began = performance.now();
  for (let i = 0; i < 3; i++) t.is(await peer.outcome(OP.encrypt, key, Buffer.alloc(100_000), null), 'OK');
  t.true(performance.now() - began >= 190);
});

test('a body is read no faster than its identity’s rate allows', async (t) => {
  const { http } = await limited(t, { bytesPerSecond: 1_000_000, burstMs: 0 });
  const began = performance.now();
  t.is((await http(0, [Buffer.alloc(300_000).toString('base64')])).status, 200);
  // What came last is not waited for, at most a read of 64 KiB.
  t.true(performance.now() - began >= 250);
});

test('a batch counts as its items, on whichever protocol, and the protocols share the rate', async (t) => {
  const { daemon, key, greeted, http } = await limited(t, { requestsPerSecond: 100, burstMs: 0 });
  const one = await greeted(0);
  t.is((await http(0)).status, 200);
  t.is(await one.outcome(OP.encryptMany, key, Array(6_000).fill(X), null), 'OK');
  const refused = await http(0);
  t.is(refused.status, 429);
  t.is(codeOf(refused), 'BUSY');
  const seconds = Number(refused.headers['retry-after']);
  t.true(seconds >= 2 && seconds <= 60, `${seconds}`);
  t.is((await http(1)).status, 200);
  t.is((await http(1, Array(6_000).fill('eA=='))).status, 200);
  t.is((await http(1)).status, 429);
  for (const path of ['/healthz', '/readyz']) t.is((await askHttp(daemon.socket, { path })).status, 200);
});

test('over HTTP a request waits for its turn, is refused if that is far, and refusals do not come at once', async (t) => {
  const { http } = await limited(t, { requestsPerSecond: 4, burstMs: 0 });
  const began = performance.now();
  const statuses = await Promise.all(
    Array.from({ length: 12 }, async () => {
      const { status } = await http(0);
      if (status === 429) t.true(performance.now() - began >= 950);
      return status;
    }),
  );
  t.true(statuses.filter((status) => status === 200).length >= 4);
  t.true(statuses.filter((status) => status === 429).length >= 1);
});

test('what is refused for another reason counts too, and comes as late', async (t) => {
  const { daemon } = await limited(t, { requestsPerSecond: 4, burstMs: 0 });
  const began = performance.now();
  const answers = await Promise.all(
    Array.from({ length: 12 }, (_, index) =>
      askHttp(daemon.socket, { path: index % 2 === 0 ? '/nothing' : '/v1/status', headers: { authorization: 'Bearer wrong' } }),
    ),
  );
  t.deepEqual([...new Set(answers.map(({ status }) => status))].sort(), [401, 404]);
  t.true(performance.now() - began >= 950);
  t.is((await askHttp(daemon.socket, { path: '/healthz' })).status, 200);
});

test('limits that are changed while it runs hold at once, for those who wait too', async (t) => {
  const { key, greeted, replace } = await limited(t, { requestsPerSecond: 1, burstMs: 0 });
  const peer = await greeted(0);
  t.is(await peer.outcome(OP.encryptMany, key, Array(1_000).fill(X), null), 'OK');
  replace({ requestsPerSecond: 0 });
  t.deepEqual(await flood(peer, key, 500), Array(500).fill('OK'));
  replace({ requestsPerSecond: 10 });
  t.true(countOf(await flood(peer, key, 500), 'BUSY') > 0);
});

test('a connection that becomes somebody else does not wait for what it owed as another', async (t) => {
  const { key, greeted, tokens } = await limited(t, { requestsPerSecond: 2, burstMs: 0 });
  const peer = await greeted(0);
  const batch = peer.prepare(OP.encryptMany, [key, Array(10_000).fill(X), null]);
  const hello = peer.prepare(OP.hello, [1, tokens[1]]);
  peer.write(batch.frame, hello.frame);
  t.is((await hello.answer).error, undefined);
  t.is((await batch.answer).error, undefined);
  t.is(await peer.outcome(OP.encrypt, key, X, null), 'OK');
});
