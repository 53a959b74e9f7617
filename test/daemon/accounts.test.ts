import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect, Socket } from 'node:net';
import test from 'ava';
import { Accounts } from '../../dist/daemon/accounts.js';
import { Authentication } from '../../dist/daemon/authentication.js';
import { answer, type Context } from '../../dist/daemon/http/requests.js';
import { Share } from '../../dist/daemon/http/share.js';
import { HttpConnection } from '../../dist/daemon/http/surface.js';
import { ANONYMOUS, type Identity } from '../../dist/daemon/identity.js';
import type { Service } from '../../dist/daemon/operations.js';
import { createToken } from '../../dist/daemon/token-writer.js';
import { Turnstile } from '../../dist/daemon/turnstile.js';
import {
  MAX_ACCOUNTS,
  MAX_COLD_PER_IDENTITY,
  MAX_CONNECTIONS_PER_IDENTITY,
  MAX_HELD_BYTES,
  MAX_HELD_BYTES_PER_IDENTITY,
  MAX_HTTP_IN_FLIGHT,
  MAX_UNKNOWN_CONNECTIONS,
} from '../../dist/limits.js';
import { OP } from '../../dist/wire/frames.js';
import { askHttp } from './http-peer.js';
import { Peer } from './peer.js';
import { running, settle } from './running.js';

const NO_RATES = { requestsPerSecond: 0, bytesPerSecond: 0, burstMs: 0 };
const named = (actor: string): Identity => ({ actor, roles: new Set(['client']) });

test('an identity may hold its part of the memory and of the requests, and others still have theirs', (t) => {
  const accounts = new Accounts(NO_RATES, () => {});
  const [greedy, other] = [accounts.of(named('a')), accounts.of(named('b'))];
  t.is(accounts.of(named('a')), greedy);
  t.true(greedy.take(MAX_HELD_BYTES_PER_IDENTITY));
  t.false(greedy.take(1));
  t.true(other.take(MAX_HELD_BYTES - MAX_HELD_BYTES_PER_IDENTITY));
  t.false(accounts.of(named('c')).take(1), 'all together hold no more than there is');
  greedy.give(1);
  t.true(greedy.take(1));
  for (let i = 0; i < MAX_COLD_PER_IDENTITY; i++) t.true(greedy.begin());
  t.true(greedy.isFull);
  t.false(greedy.begin());
  t.true(other.begin());
  greedy.end();
  t.true(greedy.begin());
});

test('an account is forgotten when there is nothing to remember of it, and never while something is owed', (t) => {
  const accounts = new Accounts({ ...NO_RATES, requestsPerSecond: 1 }, () => {});
  const made = accounts.of(named('a'));
  made.connections++;
  accounts.sweep();
  t.is(accounts.of(named('a')), made);
  made.connections--;
  made.bucket.charge(1_000, 0, performance.now());
  accounts.sweep();
  t.is(accounts.of(named('a')), made, 'who comes again does not begin anew');
  accounts.replace(NO_RATES);
  made.take(1);
  accounts.sweep();
  t.is(accounts.of(named('a')), made);
});

test('there are no more accounts than are counted apart, and who is one too many shares one', (t) => {
  const accounts = new Accounts(NO_RATES, () => {});
  const kept = Array.from({ length: MAX_ACCOUNTS }, (_, index) => {
    const account = accounts.of(named(`a${index}`));
    account.begin();
    return account;
  });
  t.is(accounts.of(named('x')), accounts.of(named('y')));
  t.is(accounts.of(named('a0')), kept[0]!);
  kept[1]?.end();
  accounts.sweep();
  t.not(accounts.of(named('x')), accounts.of(named('y')));
});

test('a request that ended while its caller was looked at is none of the caller’s', (t) => {
  const accounts = new Accounts(NO_RATES, () => {});
  const account = accounts.of(named('a'));
  const share = new Share(accounts.held);
  share.give();
  t.throws(() => share.belongTo(account), { code: 'INVALID_ARGUMENT' });
  t.true(account.isIdle(performance.now()));
  const other = new Share(accounts.held);
  other.belongTo(account);
  t.false(account.isIdle(performance.now()), 'one that goes on is');
  other.give();
  t.true(account.isIdle(performance.now()));
});

for (const closes of [true, false]) {
  test(`a connection that ${closes ? 'closed' : 'stayed'} while its token was verified is counted ${closes ? 'nowhere' : 'once'}`, async (t) => {
    const accounts = new Accounts(NO_RATES, () => {});
    let verified = (_: Identity) => {};
    const verifying = new Promise<Identity>((resolve) => {
      verified = resolve;
    });
    const service = { accounts, authentication: { ofHeader: () => verifying } } as unknown as Service;
    const gone: boolean[] = [];
    const socket = new Socket();
    const events = { onKnown: () => {}, onClose: () => gone.push(true) };
    const connection = new HttpConnection(socket, ANONYMOUS, undefined, () => true, service, events);
    const naming = connection.identify({ authorization: 'Bearer a.b.c' });
    const close = () =>
      new Promise((resolve) => {
        socket.once('close', resolve).destroy();
      });
    if (closes) await close();
    verified(named('a'));
    t.is((await naming).actor, 'a');
    t.is(accounts.of(named('a')).connections, closes ? 0 : 1);
    if (!closes) await close();
    t.deepEqual(gone, [true]);
    t.is(accounts.of(named('a')).connections, 0);
    t.is(accounts.of(ANONYMOUS).connections, 0);
  });
}

test('work under one name takes turns with that under others, however much of it waits', async (t) => {
  const turnstile = new Turnstile();
  const done: string[] = [];
  let running = 0;
  const work = (name: string) => async () => {
    t.is(++running, 1);
    await new Promise((resolve) => setImmediate(resolve));
    running--;
    done.push(name);
    if (name === 'b1') throw new Error('failed');
    return name;
  };
  const names = ['a1', 'a2', 'a3', 'a4', 'b1', 'c1', 'b2'];
  const results = await Promise.allSettled(names.map((name) => turnstile.pass(work(name), name.charAt(0))));
  t.deepEqual(done, ['a1', 'a2', 'b1', 'c1', 'a3', 'b2', 'a4']);
  t.deepEqual(
    results.map((result) => (result.status === 'fulfilled' ? result.value : String(result.reason))),
    names.map((name) => (name === 'b1' ? 'Error: failed' : name)),
  );
  t.is(await turnstile.pass(work('a5'), 'a'), 'a5');
});

test.serial('connections that came with a token are counted by it, and leave the places of nobody to others', async (t) => {
  const { daemon, directory } = await running(t, {}, { endpoints: [{ host: '127.0.0.1', port: 0 }] });
  const [port] = daemon.ports;
  const { token } = await createToken(`${directory}/data`, { roles: ['client'] });
  // Another uid is not to be had without root: the daemon is told that it knows none.
  const ofPeer = Reflect.get(Authentication.prototype, 'ofPeer');
  Authentication.prototype.ofPeer = () => ANONYMOUS;
  const peers: Peer[] = [];
  t.teardown(async () => {
    Authentication.prototype.ofPeer = ofPeer;
    for (const peer of peers) await peer.close();
  });
  const connect = async () => {
    const peer = await Peer.connect(port!);
    peers.push(peer);
    return peer;
  };
  t.true(MAX_CONNECTIONS_PER_IDENTITY > MAX_UNKNOWN_CONNECTIONS);
  for (let i = 0; i < MAX_CONNECTIONS_PER_IDENTITY; i++) t.is(await (await connect()).outcome(OP.hello, 1, token), 'OK', `${i}`);
  const surplus = await connect();
  t.is(await surplus.outcome(OP.hello, 1, token), 'BUSY');
  t.is(await surplus.outcome(OP.createDek, null), 'UNAUTHENTICATED', 'it stays nobody');
  const headers = { authorization: `Bearer ${token}` };
  t.is((await askHttp(port!, { path: '/v1/keys', body: {}, headers })).status, 429);
  t.is(await peers[0]!.outcome(OP.hello, 1, token), 'OK', 'one that is counted may say so again');
  await peers[0]!.close();
  for (;;) {
    const outcome = await surplus.outcome(OP.hello, 1, token);
    if (outcome === 'OK') break;
    t.is(outcome, 'BUSY');
  }
  t.is(await surplus.outcome(OP.createDek, null), 'OK');
});

test('what anybody may ask for counts as its connection’s: others have theirs', async (t) => {
  const accounts = new Accounts(NO_RATES, () => {});
  const account = accounts.of(ANONYMOUS);
  const watch = { begin: () => {}, end: () => {} };
  const context = {
    service: { accounts, watch, version: '1' },
    actor: 'anonymous',
    account: () => account,
    refuseBrowser: () => {},
  };
  const server = createServer((request, response) => void answer(context as unknown as Context, request, response));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => server.close());
  const ask = () => askHttp((server.address() as AddressInfo).port, { path: '/openapi.json' });
  t.is((await ask()).status, 200);
  t.true(account.take(MAX_HELD_BYTES_PER_IDENTITY));
  t.is((await ask()).status, 429);
  account.give(MAX_HELD_BYTES_PER_IDENTITY);
  t.is((await ask()).status, 200);
});

test('requests that were sent one behind the other are over with their connection', async (t) => {
  const { daemon } = await running(t);
  const { keyId } = await daemon.kms.createDek();
  const body = JSON.stringify({ key_id: keyId, plaintext: 'eA==' });
  const one = `POST /encrypt HTTP/1.1\r\nHost: unix\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  for (let begun = 0; begun <= 2 * MAX_COLD_PER_IDENTITY; begun += MAX_HTTP_IN_FLIGHT) {
    const socket = connect(daemon.socket);
    socket.write(one.repeat(MAX_HTTP_IN_FLIGHT));
    await once(socket, 'connect');
    await settle(2);
    const closed = once(socket, 'close');
    socket.destroy();
    await closed;
  }
  while (daemon.connections() > 0) await settle(1);
  t.is((await askHttp(daemon.socket, { path: '/encrypt', body: { key_id: keyId, plaintext: 'eA==' } })).status, 200);
});
