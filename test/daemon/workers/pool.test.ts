import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import threads, { type Worker } from 'node:worker_threads';
import test from 'ava';
import { Counterpart } from '../../../dist/daemon/workers/counterpart.js';
import { Thread } from '../../../dist/daemon/workers/thread.js';
import { binding, COUNTS } from '../../../dist/native.js';
import { OP } from '../../../dist/wire/frames.js';
import { type Event, linesOf } from '../../audit/lines.js';
import { askHttp } from '../http-peer.js';
import type { Peer } from '../peer.js';
import { configIn, type Running, running, stopPatiently } from '../running.js';
import { settled } from '../settled.js';

const X = Buffer.from('x');
/** But those of files, which are open for a moment now and then. */
const descriptors = () => {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return !readlinkSync(`/proc/self/fd/${fd}`).startsWith('/');
    } catch {
      return false;
    }
  }).length;
};

/** The thread behind the pool's own face of it: a test may do to it what nobody else can. */
function insideOf(thread: Thread | undefined): Worker {
  return Reflect.get(thread!, 'worker') as Worker;
}

const threadsOf = ({ daemon }: Running) => daemon.workers!.threads;
const sizesOf = (run: Running) => threadsOf(run).map((thread) => thread?.size);
const allServe = ({ daemon }: Running) => daemon.workers!.size === 2;

/** One that is greeted, so that its thread has it. */
async function greeted({ connect }: Running): Promise<Peer> {
  const peer = await connect();
  await peer.ask(OP.hello, 1, null);
  return peer;
}

/** Of the audit log, which is ended. */
function eventsIn({ directory }: Running): Event[] {
  return linesOf(readFileSync(join(directory, 'data/kms-audit.log'))).map(({ event }) => event);
}

const sumOf = (events: Event[]) => events.reduce((sum, { count }) => sum + Number(count), 0);

test.serial(
  'connections are spread over the workers, and whoever comes after some have gone finds the emptier one',
  async (t) => {
    const run = await running(t, { dev: true }, { workers: 2 });
    const peers = [];
    for (let n = 0; n < 8; n++) peers.push(await greeted(run));
    t.deepEqual(sizesOf(run), [4, 4]);
    for (const at of [0, 2, 4]) await peers[at]!.close();
    await settled(() => run.daemon.connections() === 5);
    for (let n = 0; n < 3; n++) await greeted(run);
    t.deepEqual(sizesOf(run), [4, 4]);
  },
);

test.serial('what is not for workers stays on the main thread: HTTP, and everything where there is one thread', async (t) => {
  const run = await running(t, { dev: true }, { workers: 2 });
  await askHttp(run.daemon.socket, { path: '/healthz' });
  t.deepEqual(sizesOf(run), [0, 0]);
  const alone = await running(t, { dev: true }, { workers: 1 });
  t.is(alone.daemon.workers, undefined);
  const strict = await running(t, {}, { workers: 2, auditDataOperations: 'each', auditStrict: true });
  t.is(strict.daemon.workers, undefined, 'its answers wait for the disk');
});

test.serial('an exception in a worker ends its connections and nobody else’s; another one takes its place', async (t) => {
  const run = await running(t, { dev: true }, { workers: 2 });
  const { daemon, events, fields } = run;
  const [lost, kept] = [await greeted(run), await greeted(run)];
  const key = (await kept.ask(OP.createDek, null)).results[0];
  const [first] = threadsOf(run);
  t.is(first!.size, 1);
  // No order at all: reading it throws.
  insideOf(first).postMessage(null);
  await lost.closed;
  t.is(await kept.outcome(OP.encrypt, key, X, null), 'OK');
  await settled(() => threadsOf(run)[0] !== first && allServe(run));
  const said = fields[events.findIndex(({ event }) => event === 'worker_ended')];
  t.is(said?.['worker'], 1);
  t.regex(String(said?.['cause']), /TypeError/);
  t.true(events.some(({ event }) => event === 'worker_replaced'));
  t.is(daemon.connections(), 1);
  const again = await greeted(run);
  t.is(threadsOf(run)[0]!.size, 1, 'the new one serves');
  t.is(await again.outcome(OP.encrypt, key, X, null), 'OK');
  const metrics = await askHttp(daemon.socket, { path: '/metrics' });
  t.regex(metrics.text, /^progressdb_kms_workers_replaced_total 1$/m);
  t.regex(metrics.text, /^progressdb_kms_workers 2$/m);
});

test.serial('where the system gives no thread for one that ended, the others go on, and it is tried again', async (t) => {
  const run = await running(t, { dev: true }, { workers: 2 });
  const [lost, kept] = [await greeted(run), await greeted(run)];
  const { Worker: given } = threads;
  const giveAgain = () => {
    threads.Worker = given;
    syncBuiltinESMExports();
  };
  t.teardown(giveAgain);
  threads.Worker = class {
    constructor() {
      throw new Error('ERR_WORKER_INIT_FAILED: EAGAIN');
    }
  } as unknown as typeof Worker;
  syncBuiltinESMExports();
  await threadsOf(run)[0]!.terminate();
  await lost.closed;
  const refused = () => run.fields.some(({ cause }) => /EAGAIN/.test(String(cause)));
  await settled(refused);
  t.is(await kept.outcome(OP.createDek, null), 'OK');
  giveAgain();
  await settled(() => allServe(run));
});

test.serial('what came of one chunk is counted as held until the last of it is done with, as its memory is', async (t) => {
  const run = await running(t, { dev: true }, { workers: 2 });
  const { kms } = run.daemon;
  const peer = await greeted(run);
  let goOn = () => {};
  const waits = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  const create = kms.createDek.bind(kms);
  kms.createDek = async (label, options) => {
    await waits;
    return create(label, options);
  };
  const slow = peer.prepare(OP.createDek, [null]);
  const large = peer.prepare(OP.describeKey, ['x'.repeat(20_000)]);
  peer.write(slow.frame, large.frame);
  await large.answer;
  const heldBytes = async () => {
    const { text } = await askHttp(run.daemon.socket, { path: '/metrics' });
    return Number(/^progressdb_kms_held_bytes (\d+)$/m.exec(text)?.[1]);
  };
  t.is(await heldBytes(), slow.frame.length + large.frame.length);
  goOn();
  t.is((await slow.answer).error, undefined);
  t.is(await heldBytes(), 0);
});

test.serial('what a worker had read of who is nobody any more is not done', async (t) => {
  const run = await running(t, {}, { workers: 2 });
  const peer = await greeted(run);
  const config = configIn(run.directory, { auditorUids: `${process.getuid?.() ?? 0}` });
  const asked = peer.ask(OP.createDek, null);
  // The main thread hears nothing while the worker reads it and passes it on.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
  run.daemon.prepare(config)();
  await t.throwsAsync(asked, { message: 'the connection was closed' });
  t.deepEqual((await run.daemon.kms.listKeys()).keys, []);
});

test.serial('while no worker serves, the main thread does', async (t) => {
  const run = await running(t, { dev: true }, { workers: 2 });
  for (const thread of threadsOf(run)) Object.assign(thread!, { isReady: false });
  const peer = await greeted(run);
  t.deepEqual(sizesOf(run), [0, 0]);
  t.is(await peer.outcome(OP.encrypt, (await peer.ask(OP.createDek, null)).results[0], X, null), 'OK');
  for (const thread of threadsOf(run)) Object.assign(thread!, { isReady: true });
});

test.serial('workers that are ended in the middle of their work leave nothing behind', async (t) => {
  const run = await running(t, {}, { workers: 2, cachedKeys: 8 });
  const admin = await greeted(run);
  const keys = await Promise.all(Array.from({ length: 24 }, async () => (await admin.ask(OP.createDek, null)).results[0]));
  await Promise.all([greeted(run), greeted(run)]);
  await admin.close();
  await settled(() => run.daemon.connections() === 2);
  const before = descriptors();
  for (let round = 0; round < 5; round++) {
    const peers = await Promise.all(Array.from({ length: 8 }, () => run.connect()));
    const loads = peers.map(async (peer, which) => {
      // Some that are answered at once, some that wait for their keys, some that are large, and the beginning of one.
      for (;;) {
        const asked = keys.map((key) => peer.ask(OP.encrypt, key, which === 0 ? Buffer.alloc(300_000) : X, null));
        peer.write(Buffer.from('000fffff', 'hex'));
        if (which > 1) peer.socket.destroy();
        await Promise.all(asked);
      }
    });
    await settled(() => peers[0]!.answers.length > 0 || round > 0);
    await Promise.all(threadsOf(run).map((thread) => thread?.terminate()));
    // Who came while there was no worker is served by the main thread.
    for (const peer of peers) await peer.close();
    await Promise.all(loads.map((load) => load.catch(() => {})));
    await settled(() => allServe(run));
  }
  await settled(() => run.daemon.connections() === 0);
  // As before: one that each thread has, to begin with.
  const [one, other] = await Promise.all([greeted(run), greeted(run)]);
  await settled(() => descriptors() <= before);
  t.is(descriptors(), before);
  const told = async () => (await askHttp(run.daemon.socket, { path: '/metrics' })).text;
  // What waits for a slow disk goes on without its connection.
  await settled(async () => /^progressdb_kms_requests_in_flight\{surface="binary"\} 0$/m.test(await told()));
  t.regex(await told(), /^progressdb_kms_held_bytes 0$/m);
  t.regex(await told(), /^progressdb_kms_workers_replaced_total 10$/m);
  for (const peer of [one, other]) t.is(await peer.outcome(OP.encrypt, keys[0], X, null), 'OK');
});

test.serial('descriptors that a worker did not come to take are closed with it', async (t) => {
  const run = await running(t, { dev: true }, { workers: 2 });
  await Promise.all([greeted(run), greeted(run)]);
  const before = descriptors();
  const { open } = Thread.prototype;
  t.teardown(() => Object.assign(Thread.prototype, { open }));
  for (let round = 0; round < 10; round++) {
    let handedOver = 0;
    Thread.prototype.open = function (this: Thread, ...given) {
      handedOver++;
      // It takes nothing any more, but has not ended yet.
      void this.terminate();
      return open.apply(this, given);
    };
    const peers = await Promise.all(Array.from({ length: 20 }, () => run.connect()));
    for (const peer of peers) peer.write(Buffer.from('00', 'hex'));
    const gone = () => peers.filter(({ socket }) => socket.destroyed).length;
    await settled(() => handedOver > 0 && gone() >= handedOver);
    Object.assign(Thread.prototype, { open });
    // Who came while there was no worker is served by the main thread.
    for (const peer of peers) await peer.close();
    await settled(() => allServe(run));
    await Promise.all([greeted(run), greeted(run)]);
  }
  await settled(() => run.daemon.connections() <= 2);
  await settled(() => descriptors() <= before);
  t.is(descriptors(), before);
});

test.serial('an identity has one rate, however many threads it asks', async (t) => {
  // Enough for 61 at once, and for one more a second.
  const rates = { requestsPerSecond: 1, bytesPerSecond: 0, burstMs: 60_000 };
  const run = await running(t, {}, { workers: 2, rates });
  const key = (await run.daemon.kms.createDek()).keyId;
  const peers = [await run.connect(), await run.connect()];
  const served: number[] = [];
  for (const peer of peers) {
    const prepared = Array.from({ length: 61 }, () => peer.prepare(OP.encrypt, [key, X, null]));
    peer.write(...prepared.map(({ frame }) => frame));
    const codes = await Promise.all(prepared.map(async ({ answer }) => (await answer).error?.code));
    served.push(codes.filter((code) => code === undefined).length);
    t.true(codes.every((code) => code === undefined || code === 'BUSY'));
  }
  t.deepEqual(sizesOf(run), [1, 1]);
  t.is(served[0], 61);
  // What the rate gives in the time that the test takes.
  t.true(served[1]! < 30, `${served[1]} served`);
  await settled(() => run.events.some(({ event }) => event === 'over_rate'));
  const refused = async () => {
    const { text } = await askHttp(run.daemon.socket, { path: '/metrics' });
    return Number(/^progressdb_kms_refusals_total\{reason="rate"\} (\d+)$/m.exec(text)?.[1]);
  };
  // A worker tells of them when it comes to it.
  await settled(async () => (await refused()) >= 61 - served[1]!);
  t.is(await refused(), 61 - served[1]!);
});

test.serial('after an unseal workers serve from the new store themselves', async (t) => {
  const run = await running(t, {}, { workers: 2 });
  const peers = [await greeted(run), await greeted(run)];
  const key = (await peers[0]!.ask(OP.createDek, null)).results[0];
  const ciphertext = (await peers[1]!.ask(OP.encrypt, key, X, null)).results[0];
  t.is(await peers[0]!.outcome(OP.seal), 'OK');
  for (const peer of peers) t.is(await peer.outcome(OP.decrypt, key, ciphertext, null), 'SEALED');
  t.is(await peers[0]!.outcome(OP.unseal), 'OK');
  for (const peer of peers) t.deepEqual((await peer.ask(OP.decrypt, key, ciphertext, null)).results, [X]);
  const told = run.events.length;
  for (const peer of peers) t.deepEqual((await peer.ask(OP.decrypt, key, ciphertext, null)).results, [X]);
  t.deepEqual(run.events.slice(told), [], 'the main thread had no request of it');
  t.true(
    run.events.some(({ event }) => event === 'request'),
    'one would be told',
  );
});

test.serial('a narrowed peer is held to its keys on whichever thread it is', async (t) => {
  const own = `uid:${process.getuid?.() ?? 0}`;
  const access = { allowedUids: [], adminUids: [], auditorUids: [], unauthenticatedLoopbackRoles: [] };
  const run = await running(t, {}, { workers: 2, access: { ...access, narrowed: { [own]: { own: true } } } });
  const foreign = (await run.daemon.kms.createDek('other', { actor: 'uid:12345' })).keyId;
  for (let n = 0; n < 2; n++) {
    const peer = await greeted(run);
    const mine = (await peer.ask(OP.createDek, null)).results[0];
    for (let turn = 0; turn < 2; turn++) {
      t.is(await peer.outcome(OP.encrypt, mine, X, null), 'OK');
      t.is(await peer.outcome(OP.encrypt, foreign, X, null), 'PERMISSION_DENIED');
    }
  }
  t.deepEqual(sizesOf(run), [1, 1]);
});

test.serial('who is somebody else by a new configuration has to come again, on a worker too', async (t) => {
  const run = await running(t, {}, { workers: 2 });
  const own = process.getuid?.() ?? 0;
  const peers = await Promise.all([greeted(run), greeted(run)]);
  const config = configIn(run.directory, { auditorUids: `${own}` });
  run.daemon.prepare(config)();
  for (const peer of peers) await peer.closed;
  const again = await greeted(run);
  t.is(await again.outcome(OP.createDek, null), 'PERMISSION_DENIED');
});

test.serial('what a worker refuses for want of a role is in the audit log, each time of it', async (t) => {
  const run = await running(t, { auditorUids: `${process.getuid?.() ?? 0}` }, { workers: 2 });
  const key = (await run.daemon.kms.createDek()).keyId;
  const peers = await Promise.all([greeted(run), greeted(run)]);
  for (let n = 0; n < 30; n++) for (const peer of peers) t.is(await peer.outcome(OP.encrypt, key, X, null), 'PERMISSION_DENIED');
  await run.daemon.stop();
  const denied = eventsIn(run).filter(({ type, operation }) => type === 'denied' && operation === 'encrypt or decrypt');
  t.is(sumOf(denied), 60);
});

test.serial('a key that is used much on workers is supplied before it runs out', async (t) => {
  const run = await running(t, { dev: true }, { workers: 2 });
  const peers = await Promise.all([greeted(run), greeted(run)]);
  const key = (await peers[0]!.ask(OP.createDek, null)).results[0];
  for (let n = 0; n < 200; n++) {
    const answers = peers.flatMap((peer) => Array.from({ length: 8 }, () => peer.outcome(OP.encrypt, key, X, null)));
    t.deepEqual(new Set(await Promise.all(answers)), new Set(['OK']));
  }
  const waited = run.fields.filter(({ operation }, at) => run.events[at]?.event === 'request' && operation === 'encrypt');
  t.deepEqual(waited, []);
});

test.serial('a stop ends every connection of a worker when it has its answers, and cuts none off', async (t) => {
  stopPatiently(t);
  const run = await running(t, {}, { workers: 2 });
  const peers = await Promise.all([greeted(run), greeted(run), greeted(run)]);
  let cut = 0;
  const destroy = Reflect.get(Counterpart.prototype, 'destroy') as Counterpart['destroy'];
  Counterpart.prototype.destroy = function (this: Counterpart) {
    cut++;
    destroy.call(this);
  };
  t.teardown(() => {
    Counterpart.prototype.destroy = destroy;
  });
  const asked = peers.flatMap((peer) => Array.from({ length: 50 }, () => peer.outcome(OP.createDek, null)));
  await settled(() => peers.every(({ answers }) => answers.length > 1));
  const stopped = run.daemon.stop();
  t.deepEqual(new Set(await Promise.all(asked)), new Set(['OK']));
  for (const peer of peers) await peer.closed;
  await stopped;
  t.is(cut, 0);
  t.deepEqual(threadsOf(run), [undefined, undefined]);
});

test.serial('what ended threads have counted stays counted', async (t) => {
  const run = await running(t, { dev: true }, { workers: 2 });
  const key = (await (await greeted(run)).ask(OP.createDek, null)).results[0];
  const served = () => binding.readCounts()[0]!;
  const before = served();
  for (let round = 0; round < 3; round++) {
    const peer = await greeted(run);
    for (let n = 0; n < 10; n++) await peer.ask(OP.encrypt, key, X, null);
    // One that breaks the protocol is counted by its worker alone.
    peer.write(Buffer.from('00000000', 'hex'));
    await peer.closed;
    await Promise.all(threadsOf(run).map((thread) => thread?.terminate()));
    await settled(() => allServe(run));
  }
  t.is(served() - before, 30);
  const { text } = await askHttp(run.daemon.socket, { path: '/metrics' });
  t.regex(text, /^progressdb_kms_refusals_total\{reason="protocol"\} 3$/m);
  t.is(binding.readCounts()[COUNTS.contexts], 0, 'and their contexts are wiped');
});

test.serial('the audit log tells of what every thread has done, of those that have ended too', async (t) => {
  const run = await running(t, {}, { workers: 2 });
  const key = (await (await greeted(run)).ask(OP.createDek, null)).results[0];
  for (let round = 0; round < 3; round++) {
    const peers = await Promise.all([greeted(run), greeted(run)]);
    for (let n = 0; n < 10; n++) await Promise.all(peers.map((peer) => peer.ask(OP.encrypt, key, X, null)));
    await Promise.all(threadsOf(run).map((thread) => thread?.terminate()));
    await settled(() => allServe(run));
  }
  await run.daemon.stop();
  t.is(sumOf(eventsIn(run).filter(({ type, key_id }) => type === 'encrypt' && key_id === key)), 60);
});
