import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { connectKms } from '../../dist/client/index.js';
import { binding } from '../../dist/native.js';
import { OP } from '../../dist/wire/frames.js';
import { partsOf, secretOf } from '../kms/databases.js';
import { askHttp, codeOf } from './http-peer.js';
import type { Peer } from './peer.js';
import { running, settle } from './running.js';

const X = Buffer.from('of one tenant');
const OWN = `uid:${process.getuid?.() ?? 0}`;

async function made(peer: Peer): Promise<Buffer> {
  return Buffer.from((await peer.ask(OP.newDatabase)).results[0] as Uint8Array);
}

async function keyOf(peer: Peer, thread = 'thread'): Promise<string> {
  return (await peer.ask(OP.createDekForThread, thread)).results[0] as string;
}

test('a connection goes from one database to another and out again, and each has its own keys', async (t) => {
  const { daemon, connect } = await running(t);
  const peer = await connect();
  const secrets = [await made(peer), await made(peer)];
  const places = [null, ...secrets];
  const keys: string[] = [];
  const ciphertexts: unknown[] = [];
  for (const place of places) {
    t.is(await peer.outcome(OP.openDatabase, place), 'OK');
    keys.push(await keyOf(peer));
    ciphertexts.push((await peer.ask(OP.encrypt, keys.at(-1), X, null)).results[0]);
  }
  for (let round = 0; round < 2; round++) {
    for (const [at, place] of places.entries()) {
      t.is(await peer.outcome(OP.openDatabase, place), 'OK');
      for (const [of, key] of keys.entries()) {
        const expected = of === at ? 'OK' : 'KEY_NOT_FOUND';
        t.is(await peer.outcome(OP.decrypt, key, ciphertexts[of], null), expected, `${of} in ${at}`);
        t.is(await peer.outcome(OP.encryptMany, key, [X, X], null), expected);
        t.is(await peer.outcome(OP.encrypt, key, Buffer.alloc(300_000), null), expected);
        t.is(await peer.outcome(OP.describeKey, key), expected);
      }
      t.is(((await peer.ask(OP.listKeys, {})).results[0] as unknown[]).length, 1);
    }
  }
  t.is(daemon.kms.cachedKeys, 1, 'the space outside has never seen the others');
});

test('several connections are in several databases at once, and the hot path serves each from its own space', async (t) => {
  const { connect } = await running(t);
  const peers = await Promise.all([1, 2, 3, 4].map(connect));
  const secrets = [await made(peers[0]!), await made(peers[0]!)];
  await Promise.all(peers.map((peer, at) => peer.outcome(OP.openDatabase, secrets[at % 2])));
  const [one, two] = [await keyOf(peers[0]!), await keyOf(peers[1]!)];
  const outcomes = await Promise.all(
    Array.from({ length: 400 }, (_, at) => peers[at % 4]!.outcome(OP.encrypt, at % 3 === 0 ? one : two, X, null)),
  );
  for (const [at, outcome] of outcomes.entries()) {
    const isThere = (at % 3 === 0) === (at % 2 === 0);
    t.is(outcome, isThere ? 'OK' : 'KEY_NOT_FOUND', `${at}`);
  }
  await peers[0]!.close();
  t.is(await peers[2]!.outcome(OP.encrypt, one, X, null), 'OK', 'another opener stays');
  t.is(await peers[2]!.outcome(OP.openDatabase, null), 'OK');
  const again = await connect();
  t.is(await again.outcome(OP.encrypt, one, X, null), 'KEY_NOT_FOUND');
  t.is(await again.outcome(OP.openDatabase, secrets[0]), 'OK');
  t.is(await again.outcome(OP.encrypt, one, X, null), 'OK');
});

test.serial('with the connection that has it open a database goes, and not a key stays in memory', async (t) => {
  const { daemon, connect } = await running(t);
  const peer = await connect();
  const secret = await made(peer);
  const used = binding.arenaInfo().used;
  const inside = await connect();
  await inside.outcome(OP.openDatabase, secret);
  const key = await keyOf(inside);
  t.is(await inside.outcome(OP.encrypt, key, X, null), 'OK');
  t.true(binding.arenaInfo().used > used);
  await inside.close();
  while (binding.arenaInfo().used !== used) await settle();
  const { text } = await askHttp(daemon.socket, {
    path: '/v1/keys',
    body: {},
    headers: { KmsDatabaseSecret: secret.toString() },
  });
  t.true(text.includes('key_id'));
  t.is(binding.arenaInfo().used, used, 'nor after a request');
  const asked = await connect();
  asked.write(asked.prepare(OP.openDatabase, [secret]).frame);
  await asked.close();
  await settle(20);
  while (binding.arenaInfo().used !== used) await settle();
  t.pass('one that left before it was let in leaves nothing either');
});

test('a wrong secret, a wrong group and no secret at all are refused, and the connection stays where it is', async (t) => {
  const { connect } = await running(t);
  const peer = await connect();
  const secret = await made(peer);
  await peer.outcome(OP.openDatabase, secret);
  const key = await keyOf(peer);
  const parts = partsOf(secret.toString());
  const messages = new Set<string>();
  for (const wrong of [
    { ...parts, key: '0'.repeat(64) },
    { ...parts, groupId: '1' },
  ]) {
    const { error } = await peer.ask(OP.openDatabase, Buffer.from(secretOf(wrong)));
    t.is(error?.code, 'UNAUTHENTICATED');
    messages.add(error!.message);
  }
  t.is(messages.size, 1);
  for (const wrong of [Buffer.from('x'), Buffer.alloc(0), secret.subarray(1), Buffer.alloc(200, 'A')]) {
    t.is(await peer.outcome(OP.openDatabase, wrong), 'INVALID_ARGUMENT');
  }
  t.is(await peer.outcome(OP.openDatabase, Buffer.alloc(100_000)), 'TOO_LARGE');
  t.is(await peer.outcome(OP.encrypt, key, X, null), 'OK');
});

test('nothing is done while it is not known in which database: what comes before the answer is refused', async (t) => {
  const { daemon, connect } = await running(t);
  const peer = await connect();
  const secret = await made(peer);
  const opening = peer.prepare(OP.openDatabase, [secret]);
  const others = [
    peer.prepare(OP.createDek, [null]),
    peer.prepare(OP.encrypt, [null, X, null]),
    peer.prepare(OP.openDatabase, [null]),
    peer.prepare(OP.listKeys, [{}]),
  ];
  peer.write(opening.frame, ...others.map(({ frame }) => frame));
  t.is((await opening.answer).error, undefined);
  for (const { answer } of others) t.is((await answer).error?.code, 'CONFLICT');
  t.deepEqual((await daemon.kms.listKeys()).keys, [], 'no key was made outside');
  t.is(await peer.outcome(OP.createDek, null), 'OK');
  t.deepEqual((await daemon.kms.listKeys()).keys, []);
});

test('the secret of a database is wiped in the frame that brought it', async (t) => {
  const { daemon, connect } = await running(t);
  const peer = await connect();
  const secret = await made(peer);
  const seen: Uint8Array[] = [];
  const { kms } = daemon;
  const open = kms.openDatabase.bind(kms);
  kms.openDatabase = (given, options) => {
    seen.push(given);
    return open(given, options);
  };
  t.is(await peer.outcome(OP.openDatabase, secret), 'OK');
  await askHttp(daemon.socket, { path: '/objects/owned', headers: { KmsDatabaseSecret: secret.toString() } });
  t.is(seen.length, 2);
  for (const one of seen) t.true(one.length === secret.length && one.every((byte) => byte === 0));
});

test('roles and narrowed identities are inside what they are outside', async (t) => {
  const { daemon, connect } = await running(t, { dev: true, narrowed: `${OWN} own thread:a/` });
  const { kms } = daemon;
  const secret = Buffer.from(await kms.newDatabase());
  const database = await kms.openDatabase(Uint8Array.from(secret));
  t.teardown(() => database.leave());
  const foreign = await database.createDekForThread('a/of-another', { actor: 'somebody' });
  const peer = await connect();
  t.is(await peer.outcome(OP.newDatabase), 'PERMISSION_DENIED', 'who is for some keys only makes no place for others');
  t.is(await peer.outcome(OP.openDatabase, secret), 'OK');
  t.is(await peer.outcome(OP.createDekForThread, 'b/1'), 'PERMISSION_DENIED');
  const own = await keyOf(peer, 'a/1');
  for (let round = 0; round < 2; round++) {
    t.is(await peer.outcome(OP.encrypt, own, X, null), 'OK');
    t.is(await peer.outcome(OP.encrypt, foreign.keyId, X, null), 'PERMISSION_DENIED');
    t.is(await peer.outcome(OP.encryptMany, foreign.keyId, [X], null), 'PERMISSION_DENIED');
  }
  for (const op of [OP.listKeys, OP.rotateKek]) t.is(await peer.outcome(op, {}), 'PERMISSION_DENIED');
  t.is(await peer.outcome(OP.getWrapped, own), 'PERMISSION_DENIED');
  const [keys] = (await peer.ask(OP.ownedKeys, {})).results as [Array<{ key_id: string }>];
  t.deepEqual(
    keys.map((key) => key.key_id),
    [own],
  );
});

test('a seal wipes the keys of databases too, and whoever comes after an unseal goes in again', async (t) => {
  const { daemon, directory, connect } = await running(t, {});
  const admin = await connect();
  const secret = await made(admin);
  const kms = await connectKms({ socket: daemon.socket, databaseSecret: secret });
  t.teardown(() => kms.close());
  const { keyId } = await kms.createDekForThread('thread');
  const { ciphertext } = await kms.encryptWithDek(keyId, X);
  t.is(await admin.outcome(OP.seal), 'OK');
  await t.throwsAsync(kms.encryptWithDek(keyId, X), { message: /sealed/ });
  await t.throwsAsync(kms.createDek(), { message: /sealed/ });
  t.is((await kms.health()).status, 'sealed');
  t.is(await admin.outcome(OP.unseal), 'OK');
  // The next sweep ends the connection that was in it.
  while (daemon.connections() > 1) await delay(10);
  await settle();
  t.deepEqual(Buffer.from(await kms.decryptWithDek(keyId, ciphertext)), X);
  t.truthy(directory);
});

test('after a restart of the daemon a client is in its database again', async (t) => {
  const first = await running(t, {});
  const admin = await first.connect();
  const secret = await made(admin);
  const kms = await connectKms({ socket: first.daemon.socket, databaseSecret: secret.toString(), reconnectMinMs: 1 });
  t.teardown(() => kms.close());
  const { keyId } = await kms.createDekForThread('thread');
  const ciphers = await Promise.all(Array.from({ length: 20 }, () => kms.encryptWithDek(keyId, X)));
  await first.daemon.stop();
  const { startDaemon } = await import('../../dist/daemon/main.js');
  const { configIn } = await import('./running.js');
  const again = await startDaemon(configIn(first.directory, {}), () => {});
  t.teardown(() => again.stop());
  for (const { ciphertext } of ciphers) t.deepEqual(Buffer.from(await kms.decryptWithDek(keyId, ciphertext)), X);
  t.deepEqual((await again.kms.listKeys()).keys, []);
});

test('a client with a wrong secret is told at once', async (t) => {
  const { daemon, connect } = await running(t);
  const secret = await made(await connect());
  const wrong = secretOf({ ...partsOf(secret.toString()), groupId: '5' });
  await t.throwsAsync(connectKms({ socket: daemon.socket, databaseSecret: wrong }), { message: /opens nothing here/ });
  const http = await connectKms({ endpoint: `http+unix://${daemon.socket}`, databaseSecret: wrong });
  t.teardown(() => http.close());
  await t.throwsAsync(http.createDek(), { message: /opens nothing here/ });
  for (const databaseSecret of ['', 'a b', 'ä', 7 as unknown as string]) {
    await t.throwsAsync(connectKms({ socket: daemon.socket, databaseSecret }), { message: /databaseSecret/ });
  }
  const clear = { endpoint: 'http://192.0.2.1:1', databaseSecret: secret };
  await t.throwsAsync(connectKms(clear), { message: /in the clear/ });
});

test('over HTTP a database is made, named in each request, and left with it', async (t) => {
  const { daemon } = await running(t);
  const ask = (path: string, body?: unknown, secret?: string, method?: string) =>
    askHttp(daemon.socket, { path, body, ...(method && { method }), ...(secret && { headers: { KmsDatabaseSecret: secret } }) });
  const [one, two] = [
    await ask('/new_database', undefined, undefined, 'POST'),
    await ask('/new_database', '', undefined, 'POST'),
  ];
  t.is(one.status, 200);
  t.regex(one.text, /^"[A-Za-z0-9+/]+=*"$/);
  t.is(one.headers['content-type'], 'application/json');
  t.is(one.headers['cache-control'], 'no-store');
  t.is(Number(one.headers['content-length']), one.text.length);
  const [first, second] = [JSON.parse(one.text) as string, JSON.parse(two.text) as string];
  t.not(first, second);
  t.regex(Buffer.from(first, 'base64').toString(), /^\{"group_id":\d{30,39},"key":"[0-9a-f]{64}"\}$/);
  const made = await ask('/create_dek_for_thread', { thread_id: 'thread' }, first);
  const keyId = made.json?.['key_id'] as string;
  const sealed = await ask('/encrypt', { key_id: keyId, plaintext: 'eA==' }, first);
  const body = { key_id: keyId, ciphertext: sealed.json?.['ciphertext'] };
  t.is((await ask('/decrypt', body, first)).json?.['plaintext'], 'eA==');
  for (const secret of [second, undefined]) t.is(codeOf(await ask('/decrypt', body, secret)), 'KEY_NOT_FOUND');
  const owned = await ask('/objects/owned', undefined, first);
  t.like(owned.json, {
    objects: [{ object_id: keyId, state: 'active', attributes: { thread_id: 'thread', alg: 'A256GCM', created_by: OWN } }],
    next: null,
  });
  t.deepEqual((await ask('/objects/owned', undefined, second)).json, { objects: [], next: null });
  t.deepEqual((await ask('/objects/owned')).json, { objects: [], next: null });
  t.is((await ask('/v1/status', undefined, 'nonsense')).status, 200, 'what is of the whole service is asked from anywhere');
});

test('over HTTP a wrong secret and an unknown database have one answer, and what is no secret another', async (t) => {
  const { daemon } = await running(t);
  const { text } = await askHttp(daemon.socket, { path: '/new_database', method: 'POST' });
  const parts = partsOf(JSON.parse(text));
  const ask = (secret: string) => askHttp(daemon.socket, { path: '/v1/keys', body: {}, headers: { KmsDatabaseSecret: secret } });
  const answers = [await ask(secretOf({ ...parts, key: '1'.repeat(64) })), await ask(secretOf({ ...parts, groupId: '12' }))];
  for (const { status, json } of answers) {
    t.is(status, 401);
    t.deepEqual(json, {
      error: { code: 'UNAUTHENTICATED', message: 'not authenticated: the database secret opens nothing here' },
    });
  }
  for (const nonsense of ['x', '', `${secretOf(parts)}, ${secretOf(parts)}`, randomBytes(150).toString('base64')]) {
    t.is(codeOf(await ask(nonsense)), 'INVALID_ARGUMENT', nonsense);
  }
  t.deepEqual((await daemon.kms.listKeys()).keys, [], 'nothing was made anywhere');
});

test('the keys that a caller owns are listed page by page, and nobody else’s', async (t) => {
  const { daemon, connect } = await running(t);
  const peer = await connect();
  const keys = new Set<string>();
  for (let made = 0; made < 7; made++) keys.add(await keyOf(peer));
  await daemon.kms.createDek(undefined, { actor: 'somebody' });
  for (const endpoint of [daemon.socket, `http+unix://${daemon.socket}`]) {
    const kms = await connectKms(endpoint);
    t.teardown(() => kms.close());
    const listed: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await kms.ownedKeys({ limit: 3, ...(cursor && { cursor }) });
      listed.push(...page.keys.map((key) => key.keyId));
      cursor = page.next ?? undefined;
    } while (cursor !== undefined);
    t.deepEqual(listed, [...keys].sort());
    await t.throwsAsync(kms.ownedKeys({ limit: 0 }), { message: /limit/ });
  }
});
