import { readdirSync } from 'node:fs';
import test from 'ava';
import { MAX_COLD_IN_FLIGHT } from '../../dist/limits.js';
import { OP } from '../../dist/wire/frames.js';
import { askHttp } from './http-peer.js';
import { Peer } from './peer.js';
import { running, settle } from './running.js';
import { Scrape } from './scrape.js';

test('too many slow requests at once are answered BUSY, and all are answered', async (t) => {
  const peer = await (await running(t)).connect();
  const parts = Array.from({ length: MAX_COLD_IN_FLIGHT + 300 }, () => peer.prepare(OP.createDek, [null]));
  peer.write(...parts.map(({ frame }) => frame));
  const codes = (await Promise.all(parts.map(({ answer }) => answer))).map(({ error }) => error?.code ?? 'OK');
  t.is(codes.filter((code) => code === 'OK').length, MAX_COLD_IN_FLIGHT);
  t.is(codes.filter((code) => code === 'BUSY').length, 300);
  t.is(await peer.outcome(OP.createDek, null), 'OK');
});

test('too many bytes in large requests at once are answered BUSY, and all are answered', async (t) => {
  const peer = await (await running(t)).connect();
  const key = (await peer.ask(OP.createDek, null)).results[0];
  const parts = Array.from({ length: 150 }, () => peer.prepare(OP.encrypt, [key, Buffer.alloc(1_000_000), null]));
  peer.write(...parts.map(({ frame }) => frame));
  const codes = (await Promise.all(parts.map(({ answer }) => answer))).map(({ error }) => error?.code ?? 'OK');
  t.deepEqual(
    codes.filter((code) => code !== 'OK' && code !== 'BUSY'),
    [],
  );
  t.true(codes.includes('OK'));
  t.is(await peer.outcome(OP.encrypt, key, Buffer.from('x'), null), 'OK');
});

test('a message that is one too many while others wait for their key is counted as refused', async (t) => {
  const run = await running(t);
  const { kms, socket } = run.daemon;
  let goOn = () => {};
  const waits = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  const fetch = kms.fetchKey.bind(kms);
  kms.fetchKey = async (keyId) => {
    await waits;
    return fetch(keyId);
  };
  const peer = await run.connect();
  const nobodys = `k_${'0'.repeat(32)}`;
  const parts = Array.from({ length: 3 }, () => peer.prepare(OP.encrypt, [nobodys, Buffer.alloc(12_000_000), null]));
  peer.write(...parts.map(({ frame }) => frame));
  t.is((await parts[2]!.answer).error?.code, 'BUSY');
  const counted = new Scrape((await askHttp(socket, { path: '/metrics' })).text);
  t.is(counted.get('requests_total{surface="binary",operation="encrypt",outcome="BUSY"}'), 1);
  goOn();
  for (const { answer } of parts.slice(0, 2)) t.is((await answer).error?.code, 'KEY_NOT_FOUND');
});

test('the requests of a peer that does not read stay with it; the others are served, and it gets all once it reads', async (t) => {
  const { connect } = await running(t);
  const slow = await connect();
  const other = await connect();
  const key = (await slow.ask(OP.createDek, null)).results[0];
  slow.socket.pause();
  const parts = Array.from({ length: 600 }, () => slow.prepare(OP.encrypt, [key, Buffer.alloc(64 * 1024), null]));
  for (const { frame } of parts) slow.write(frame);
  for (let round = 0; round < 200; round++) t.is(await other.outcome(OP.encrypt, key, Buffer.from('x'), null), 'OK');
  // 38 MiB were sent: what the kernel holds and a few buffers of the daemon are gone, the rest waits at the sender.
  t.true(slow.socket.writableLength > 30 * 1024 * 1024, `${slow.socket.writableLength} bytes wait`);
  slow.socket.resume();
  const answers = await Promise.all(parts.map(({ answer }) => answer));
  t.true(answers.every(({ error }) => error === undefined));
});

test('a peer that vanishes with requests under way harms nobody', async (t) => {
  const { connect, daemon } = await running(t, { dev: true, cachedKeys: 4 });
  const other = await connect();
  const keys = await Promise.all(Array.from({ length: 40 }, async () => (await other.ask(OP.createDek, null)).results[0]));
  for (let round = 0; round < 20; round++) {
    const peer = await Peer.connect(daemon.socket);
    for (const key of keys) void peer.ask(OP.encrypt, key, Buffer.alloc(round % 2 === 0 ? 100 : 300_000), null).catch(() => {});
    await settle(round % 5);
    await peer.close();
  }
  t.is(await other.outcome(OP.status), 'OK');
});

test.serial('two thousand connections leave no descriptor behind', async (t) => {
  const { connect, daemon } = await running(t);
  // One for each thread that serves: with its first connection a thread opens what it keeps.
  const [control, other] = [await connect(), await connect()];
  for (const one of [control, other]) await one.ask(OP.hello, 1, null);
  await settle(10);
  const before = readdirSync('/proc/self/fd').length;
  for (let round = 0; round < 20; round++) {
    const peers = await Promise.all(Array.from({ length: 100 }, () => Peer.connect(daemon.socket)));
    t.true(readdirSync('/proc/self/fd').length >= before + 100);
    await Promise.all(
      peers.map(async (peer, index) => {
        if (index % 4 === 0) await peer.ask(OP.hello, 1, null);
        if (index % 4 === 1) peer.write(Buffer.from('GET / HTTP/1.1\r\n\r\n'));
        if (index % 4 === 2) peer.write(Buffer.from('000001', 'hex'));
        await peer.close();
      }),
    );
  }
  for (let turn = 0; turn < 3_000 && readdirSync('/proc/self/fd').length > before; turn++) {
    await control.ask(OP.hello, 1, null);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  t.is(readdirSync('/proc/self/fd').length, before);
  // A worker says that a connection is closed after it is.
  const connections = async () => ((await control.ask(OP.status)).results as [{ connections: number }])[0].connections;
  for (let turn = 0; turn < 3_000 && (await connections()) > 2; turn++) await new Promise((resolve) => setTimeout(resolve, 10));
  t.is(await connections(), 2);
});
