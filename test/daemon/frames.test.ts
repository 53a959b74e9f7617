import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createConnection } from 'node:net';
import test from 'ava';
import { SharedBuffers } from '../../dist/daemon/buffers.js';
import type { ErrorCode } from '../../dist/errors.js';
import { OP } from '../../dist/wire/frames.js';
import { type Answer, encodeRequest } from '../../dist/wire/messages.js';
import type { Peer } from './peer.js';
import { running, settle } from './running.js';

const KIB = 1024;

async function newKey(peer: Peer, label: string | null = null): Promise<string> {
  const { error, results } = await peer.ask(OP.createDek, label);
  if (error) throw error;
  return results[0] as string;
}

function bytes(answer: Answer): Buffer {
  if (answer.error) throw answer.error;
  return answer.results[0] as Buffer;
}

test('hello tells version, server, protection and that it is not sealed', async (t) => {
  const peer = await (await running(t)).connect();
  const { results } = await peer.ask(OP.hello, 1, null);
  t.is(results[0], 1);
  t.regex(String(results[1]), /^progressdb-kms\/\d/);
  t.true(['secretmem', 'mlock', 'none'].includes(String(results[2])));
  t.is(results[3], false);
  t.is(await peer.outcome(OP.hello, 2, null), 'UNSUPPORTED');
  t.is(await peer.outcome(OP.hello, 1, 'token'), 'UNAUTHENTICATED');
});

test('what is encrypted decrypts, with the same AAD only, and the answer says the KEK version', async (t) => {
  const peer = await (await running(t)).connect();
  const key = await newKey(peer);
  const sealed = await peer.ask(OP.encrypt, key, Buffer.from('hello'), Buffer.from('aad'));
  t.is(sealed.results[1], '1');
  t.deepEqual(bytes(await peer.ask(OP.decrypt, key, bytes(sealed), Buffer.from('aad'))), Buffer.from('hello'));
  t.is(await peer.outcome(OP.decrypt, key, bytes(sealed), null), 'AUTHENTICATION_FAILED');
});

test('without a key id the default key serves, and names itself', async (t) => {
  const peer = await (await running(t)).connect();
  const sealed = await peer.ask(OP.encrypt, null, Buffer.from('hello'), null);
  t.is(bytes(sealed)[0], 1);
  t.is(sealed.results[1], '1');
  t.deepEqual(bytes(await peer.ask(OP.decrypt, null, bytes(sealed), null)), Buffer.from('hello'));
});

test('batches keep their order, and one bad item leaves the others alone', async (t) => {
  const peer = await (await running(t)).connect();
  const key = await newKey(peer);
  const items = [Buffer.from('a'), Buffer.alloc(0), Buffer.from('ccc')];
  const sealed = (await peer.ask(OP.encryptMany, key, items, null)).results[0] as Buffer[];
  sealed[1] = Buffer.alloc(40);
  const opened = (await peer.ask(OP.decryptMany, key, sealed, null)).results[0] as unknown[];
  t.deepEqual(opened[0], items[0]);
  t.is((opened[1] as unknown[])[0], 2);
  t.deepEqual(opened[2], items[2]);
});

test('requests split at every byte are understood', async (t) => {
  const { connect } = await running(t);
  const peer = await connect();
  const key = await newKey(peer);
  const data = randomBytes(100);
  const length = Buffer.concat([0, 1].map(() => peer.prepare(OP.encrypt, [key, data, null]).frame)).length;
  for (let at = 1; at < length; at++) {
    const parts = [
      peer.prepare(OP.encrypt, [key, data, null]),
      peer.prepare(OP.status, []),
      peer.prepare(OP.encrypt, [key, data, null]),
    ];
    const stream = Buffer.concat(parts.map(({ frame }) => frame));
    peer.write(stream.subarray(0, at));
    await settle();
    peer.write(stream.subarray(at));
    const [first, second, third] = await Promise.all(parts.map(({ answer }) => answer));
    t.deepEqual(bytes(await peer.ask(OP.decrypt, key, bytes(first!), null)), data);
    t.is(second!.error, undefined);
    t.deepEqual(bytes(await peer.ask(OP.decrypt, key, bytes(third!), null)), data);
  }
});

test('requests that come one byte at a time are understood', async (t) => {
  const peer = await (await running(t)).connect();
  const key = await newKey(peer);
  const { frame, answer } = peer.prepare(OP.encrypt, [key, Buffer.from('slowly'), null]);
  for (const byte of frame) {
    peer.write(Buffer.of(byte));
    await settle(1);
  }
  t.deepEqual(bytes(await peer.ask(OP.decrypt, key, bytes(await answer), null)), Buffer.from('slowly'));
});

test('a long pipeline over many reads is answered completely, each answer to its request', async (t) => {
  const peer = await (await running(t)).connect();
  const key = await newKey(peer);
  const plaintexts = Array.from({ length: 4000 }, (_, index) => Buffer.alloc(700 + (index % 600), index));
  const sealed = await Promise.all(plaintexts.map((plaintext) => peer.ask(OP.encrypt, key, plaintext, null)));
  const opened = await Promise.all(sealed.map((answer) => peer.ask(OP.decrypt, key, bytes(answer), null)));
  t.true(opened.every((answer, index) => bytes(answer).equals(plaintexts[index]!)));
});

test('answers that come while a large one is being written go out behind it', async (t) => {
  const peer = await (await running(t)).connect();
  const key = await newKey(peer);
  // Too large for one write each, and small ones between them that are answered sooner.
  const plaintexts = Array.from({ length: 60 }, (_, index) => randomBytes(index % 3 === 0 ? 2048 * KIB : 2 * KIB));
  const sealed = await Promise.all(plaintexts.map((plaintext) => peer.ask(OP.encrypt, key, plaintext, null)));
  for (const [index, answer] of sealed.entries()) {
    const opened = await peer.ask(OP.decrypt, key, bytes(answer), null);
    t.true(bytes(opened).equals(plaintexts[index]!));
  }
});

test('a fast operation overtakes a slow one before it', async (t) => {
  const { connect, daemon } = await running(t, {});
  const peer = await connect();
  const key = await newKey(peer);
  const slow = peer.prepare(OP.createDekForThread, ['thread']);
  const fast = peer.prepare(OP.encrypt, [key, Buffer.from('x'), null]);
  const before = peer.answers.length;
  peer.write(slow.frame, fast.frame);
  const [created, sealed] = await Promise.all([slow.answer, fast.answer]);
  t.deepEqual(peer.answers.slice(before), [sealed, created]);
  t.false(daemon.kms.sealed);
});

for (const size of [256 * KIB - 100, 256 * KIB, 300 * KIB, 600 * KIB, 1024 * KIB, 15 * 1024 * KIB]) {
  test(`a message of ${size} bytes, between small ones, comes back`, async (t) => {
    const peer = await (await running(t)).connect();
    const key = await newKey(peer);
    const data = randomBytes(size);
    const parts = [Buffer.from('before'), data, Buffer.from('after')].map((item) => peer.prepare(OP.encrypt, [key, item, null]));
    peer.write(...parts.map(({ frame }) => frame));
    const [before, sealed, after] = await Promise.all(parts.map(({ answer }) => answer));
    t.is(bytes(sealed!).length, size + 28);
    t.true(bytes(await peer.ask(OP.decrypt, key, bytes(sealed!), null)).equals(data));
    t.deepEqual(bytes(await peer.ask(OP.decrypt, key, bytes(before!), null)), Buffer.from('before'));
    t.deepEqual(bytes(await peer.ask(OP.decrypt, key, bytes(after!), null)), Buffer.from('after'));
  });
}

test('a plaintext above the limit is refused by name and the connection goes on', async (t) => {
  const peer = await (await running(t)).connect();
  const key = await newKey(peer);
  t.is(await peer.outcome(OP.encrypt, key, Buffer.alloc(15 * 1024 * KIB + 1), null), 'TOO_LARGE');
  t.is(await peer.outcome(OP.encrypt, key, Buffer.alloc(1), null), 'OK');
});

test('a batch whose answer is much larger than its request is answered', async (t) => {
  const peer = await (await running(t)).connect();
  const key = await newKey(peer);
  const items = Array.from({ length: 60_000 }, (_, index) => Buffer.of(index & 0xff));
  const sealed = (await peer.ask(OP.encryptMany, key, items, null)).results[0] as Buffer[];
  t.is(sealed.length, items.length);
  const opened = (await peer.ask(OP.decryptMany, key, sealed, null)).results[0] as Buffer[];
  t.true(opened.every((item, index) => item.equals(items[index]!)));
});

test('keys that were evicted are brought back for every request that needs them', async (t) => {
  const peer = await (await running(t, { dev: true, cachedKeys: 4 })).connect();
  const keys = await Promise.all(Array.from({ length: 60 }, () => newKey(peer)));
  const sealed = await Promise.all(keys.map((key) => peer.ask(OP.encrypt, key, Buffer.from(key), null)));
  const opened = await Promise.all(keys.map((key, index) => peer.ask(OP.decrypt, key, bytes(sealed[index]!), null)));
  t.deepEqual(
    opened.map((answer) => bytes(answer).toString()),
    keys,
  );
});

test('a large message under an evicted key comes back', async (t) => {
  const peer = await (await running(t, { dev: true, cachedKeys: 2 })).connect();
  const key = await newKey(peer);
  const data = randomBytes(400 * KIB);
  await Promise.all(Array.from({ length: 10 }, () => newKey(peer)));
  const sealed = bytes(await peer.ask(OP.encrypt, key, data, null));
  await Promise.all(Array.from({ length: 10 }, () => newKey(peer)));
  t.true(bytes(await peer.ask(OP.decrypt, key, sealed, null)).equals(data));
});

test('more encryptions than were reserved wait for the next block and all succeed', async (t) => {
  const peer = await (await running(t)).connect();
  const key = await newKey(peer);
  const parts = Array.from({ length: 1900 }, () => peer.prepare(OP.encrypt, [key, Buffer.from('x'), null]));
  peer.write(...parts.map(({ frame }) => frame));
  const answers = await Promise.all(parts.map(({ answer }) => answer));
  t.deepEqual(
    answers.filter(({ error }) => error !== undefined),
    [],
  );
  t.is(new Set(answers.map((answer) => bytes(answer).toString('hex'))).size, answers.length);
});

test('an unknown key, a wrong argument and an unknown operation are refused, each by its code', async (t) => {
  const peer = await (await running(t)).connect();
  t.is(await peer.outcome(OP.encrypt, 'k_0', Buffer.from('x'), null), 'KEY_NOT_FOUND');
  t.is(await peer.outcome(OP.encrypt, 'K', Buffer.from('x'), null), 'INVALID_ARGUMENT');
  t.is(await peer.outcome(OP.encrypt, 'k_0', 'text', null), 'INVALID_ARGUMENT');
  t.is(await peer.outcome(OP.createDekForThread, 'a b'), 'INVALID_ARGUMENT');
  t.is(await peer.outcome(99), 'UNSUPPORTED');
  t.is(await peer.outcome(OP.rewrap, 'k_0', null), 'KEY_NOT_FOUND');
  t.is(await peer.outcome(OP.slots, { action: 'open' }), 'INVALID_ARGUMENT');
  t.is(await peer.outcome(OP.openDatabase, 'text'), 'INVALID_ARGUMENT');
  t.is(await peer.outcome(OP.openDatabase, null), 'OK');
  t.is(await peer.outcome(OP.status), 'OK');
});

const BROKEN: Array<[title: string, bytes: Buffer, code: ErrorCode]> = [
  ['is not MessagePack', Buffer.from('00000001c1', 'hex'), 'INVALID_ARGUMENT'],
  ['is empty', Buffer.from('00000000', 'hex'), 'INVALID_ARGUMENT'],
  ['has no readable id', Buffer.concat([Buffer.from('0000000493', 'hex'), Buffer.from('a178c0', 'hex')]), 'INVALID_ARGUMENT'],
  ['has rubbish as an argument', Buffer.from('0000000493050ac1', 'hex'), 'INVALID_ARGUMENT'],
  ['is too long', Buffer.from('01000000', 'hex'), 'TOO_LARGE'],
];
for (const [title, broken, code] of BROKEN) {
  test(`a frame that ${title} is answered with id 0 after the answers before it, then the connection ends`, async (t) => {
    const { connect } = await running(t);
    const peer = await connect();
    await peer.ask(OP.hello, 1, null);
    peer.write(encodeRequest(77, OP.createDek, [null]), broken, encodeRequest(78, OP.createDek, [null]));
    await peer.closed;
    const ids = peer.answers.map(({ id }) => id);
    t.true(ids.includes(77));
    t.false(ids.includes(78));
    t.is(peer.answers.find(({ id }) => id === 0)?.error?.code, code);
    t.is(await (await connect()).outcome(OP.hello, 1, null), 'OK');
  });
}

test('a peer that closes its half after its requests still gets every answer', async (t) => {
  const peer = await (await running(t)).connect();
  const parts = Array.from({ length: 50 }, () => peer.prepare(OP.createDek, [null]));
  peer.write(...parts.map(({ frame }) => frame));
  peer.socket.end();
  t.true((await Promise.all(parts.map(({ answer }) => answer))).every(({ error }) => error === undefined));
  await peer.closed;
});

test('status and the keys are told as the protocol lays them down', async (t) => {
  const { connect, daemon } = await running(t);
  const peer = await connect();
  const key = await newKey(peer, 'tenant/7');
  const [status] = (await peer.ask(OP.status)).results as [Record<string, unknown>];
  t.like(status, { status: 'ok', pid: process.pid, store_fault: null, connections: 1, cached_keys: daemon.kms.cachedKeys });
  const [described] = (await peer.ask(OP.describeKey, key)).results as [Record<string, unknown>];
  t.like(described, {
    key_id: key,
    thread_id: 'tenant/7',
    alg: 'A256GCM',
    state: 'active',
    created_by: `uid:${process.geteuid?.()}`,
  });
  const [listed, next] = (await peer.ask(OP.listKeys, { thread_id: 'tenant/7' })).results as [unknown[], unknown];
  t.deepEqual([listed.length, next], [1, null]);
  const [wrapped] = (await peer.ask(OP.getWrapped, key)).results as [Buffer];
  t.is(wrapped.length, 60);
});

test.serial('what comes behind a frame that makes no sense is wiped with it', async (t) => {
  const inputs = new Set<Buffer>();
  const take = Reflect.get(SharedBuffers.prototype, 'takeResponse');
  SharedBuffers.prototype.takeResponse = function (this: SharedBuffers) {
    inputs.add(this.input);
    return take.call(this);
  };
  t.teardown(() => {
    SharedBuffers.prototype.takeResponse = take;
  });
  const { daemon, connect } = await running(t);
  await (await connect()).outcome(OP.hello, 1, null);
  const socket = createConnection(daemon.socket);
  socket.on('error', () => {});
  // An empty frame, and what is meant to be the next one's.
  socket.end(Buffer.concat([Buffer.alloc(4), Buffer.from('\x00\x00\x00\x40the plaintext of another frame')]));
  socket.resume();
  await once(socket, 'close');
  t.is(inputs.size, 1);
  for (const input of inputs) t.false(input.includes('the plaintext'));
});
