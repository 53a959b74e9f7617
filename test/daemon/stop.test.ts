import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import test from 'ava';
import { startDaemon } from '../../dist/daemon/main.js';
import { Metrics } from '../../dist/daemon/metrics/metrics.js';
import { binding } from '../../dist/native.js';
import { OP } from '../../dist/wire/frames.js';
import { askHttp } from './http-peer.js';
import { Peer } from './peer.js';
import { configIn, running, scratch, settle, start, stopPatiently } from './running.js';

test('sealed, every operation on data and keys answers SEALED; unsealed, the old ciphertexts decrypt', async (t) => {
  const { connect, events } = await running(t, {});
  const peer = await connect();
  const key = (await peer.ask(OP.createDek, null)).results[0];
  const sealed = (await peer.ask(OP.encrypt, key, Buffer.from('x'), null)).results[0];
  t.is(await peer.outcome(OP.seal), 'OK');
  for (const [op, ...args] of [
    [OP.encrypt, key, Buffer.from('x'), null],
    [OP.encrypt, null, Buffer.from('x'), null],
    [OP.encrypt, key, Buffer.alloc(300_000), null],
    [OP.decrypt, key, sealed, null],
    [OP.encryptMany, key, [Buffer.from('x')], null],
    [OP.decryptMany, key, [sealed], null],
    [OP.createDek, null],
    [OP.createDekForThread, 'thread'],
  ] as const) {
    t.is(await peer.outcome(op, ...args), 'SEALED', `op ${op}`);
  }
  t.is(((await peer.ask(OP.status)).results[0] as { status: string }).status, 'sealed');
  t.is((await peer.ask(OP.hello, 1, null)).results[3], true);
  t.is(await peer.outcome(OP.unseal), 'OK');
  t.deepEqual((await peer.ask(OP.decrypt, key, sealed, null)).results, [Buffer.from('x')]);
  // What is so already is done, and is no event.
  for (const op of [OP.unseal, OP.seal, OP.seal]) t.is(await peer.outcome(op), 'OK');
  const changes = events.map(({ event }) => event).filter((event) => /^(un)?sealed$/.test(event));
  t.deepEqual(changes, ['sealed', 'unsealed', 'sealed']);
});

// Alone, because they keep the disk busy, and with it whatever seals or stops beside them.
test.serial('a seal under load lets nothing fail in another way than SEALED', async (t) => {
  const { connect } = await running(t, { cachedKeys: 8 });
  const admin = await connect();
  const peers = await Promise.all(Array.from({ length: 4 }, connect));
  const keys = await Promise.all(Array.from({ length: 20 }, async () => (await admin.ask(OP.createDek, null)).results[0]));
  const codes = new Set<string>();
  let sealing = false;
  const loads = peers.map(async (peer, which) => {
    while (!sealing || codes.size < 2) {
      const requests = keys.flatMap((key) => [
        peer.outcome(OP.encrypt, key, Buffer.from('x'), null),
        peer.outcome(OP.encrypt, null, Buffer.from('x'), null),
        peer.outcome(OP.encrypt, key, Buffer.alloc(which === 0 ? 300_000 : 10), null),
        peer.outcome(OP.createDek, null),
      ]);
      for (const code of await Promise.all(requests)) codes.add(code);
    }
  });
  while (!codes.has('OK')) await settle();
  t.is(await admin.outcome(OP.seal), 'OK');
  sealing = true;
  await Promise.all(loads);
  t.deepEqual([...codes].sort(), ['OK', 'SEALED']);
  t.is(await admin.outcome(OP.unseal), 'OK');
  t.is(await admin.outcome(OP.encrypt, keys[0], Buffer.from('x'), null), 'OK');
});

test.serial('a stop answers every request it has read, and what it acknowledged is there after the next start', async (t) => {
  stopPatiently(t);
  const { directory, daemon, connect } = await running(t, {});
  const peer = await connect();
  const parts = Array.from({ length: 200 }, (_, index) => peer.prepare(OP.createDekForThread, [`thread-${index}`]));
  peer.write(...parts.map(({ frame }) => frame));
  await Promise.race(parts.map(({ answer }) => answer));
  const stopped = daemon.stop();
  const answers = await Promise.all(parts.map(({ answer }) => answer));
  t.true(answers.every(({ error }) => error === undefined));
  await peer.closed;
  await stopped;
  t.false(existsSync(daemon.socket));
  const again = await start(t, configIn(directory), directory);
  const reader = await again.connect();
  for (const { results } of answers) {
    const sealed = await reader.ask(OP.encrypt, results[0], Buffer.from('x'), null);
    t.is(sealed.error, undefined);
  }
});

test('a stop under load ends every connection with whole answers only', async (t) => {
  const { daemon, connect } = await running(t);
  const peers = await Promise.all(Array.from({ length: 8 }, connect));
  const key = (await peers[0]!.ask(OP.createDek, null)).results[0];
  let answered = 0;
  const loads = peers.map(async (peer) => {
    for (;;) {
      const batch = Array.from({ length: 32 }, () => peer.ask(OP.encrypt, key, Buffer.alloc(1000), null));
      for (const request of batch) {
        try {
          t.is((await request).error, undefined);
          answered++;
        } catch {
          return;
        }
      }
    }
  });
  while (answered < 2000) await new Promise((resolve) => setImmediate(resolve));
  await daemon.stop();
  await Promise.all(loads);
  await Promise.all(peers.map((peer) => peer.closed));
  t.true(answered >= 2000);
});

test('stopping twice is stopping once', async (t) => {
  const { daemon } = await running(t);
  await Promise.all([daemon.stop(), daemon.stop()]);
  t.false(existsSync(daemon.socket));
});

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`${signal} stops the daemon gracefully: exit code 0, no socket left, one JSON line per event`, async (t) => {
    const directory = scratch(t);
    const config = configIn(directory, { logLevel: 'debug' });
    binding.writeKeyFile(config.masterKeyFile!);
    const script = `
      const { runDaemon } = await import(new URL('daemon/main.js', process.argv[1]).href);
      const config = JSON.parse(process.argv[2]);
      process.exitCode = await runDaemon(config, () => config);
    `;
    const dist = new URL('../../dist/', import.meta.url).href;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, dist, JSON.stringify(config)], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    t.teardown(() => child.kill('SIGKILL'));
    let log = '';
    child.stderr.on('data', (bytes) => {
      log += bytes;
    });
    // Not its exit: what it said may come after that.
    const exited = once(child, 'close');
    while (!log.includes('"listening"') && child.exitCode === null) await once(child.stderr, 'data');
    const peer = await Peer.connect(config.socket!);
    t.is(await peer.outcome(OP.hello, 1, null), 'OK');
    child.kill(signal);
    await peer.closed;
    t.deepEqual((await exited).slice(0, 1), [0], log);
    t.false(existsSync(config.socket!));
    const events = log
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).event);
    t.true(events.includes('stopped'));
  });
}

test('what fails while it stops does not keep it from wiping its keys', async (t) => {
  const directory = scratch(t);
  const config = configIn(directory);
  binding.writeKeyFile(config.masterKeyFile!);
  const daemon = await startDaemon(config, () => {});
  t.is((await askHttp(daemon.socket, { path: '/metrics' })).status, 200);
  const close = Reflect.get(Metrics.prototype, 'close');
  Metrics.prototype.close = function (this: Metrics) {
    close.call(this);
    throw new Error('failed');
  };
  t.teardown(() => {
    Metrics.prototype.close = close;
  });
  await t.throwsAsync(daemon.stop(), { message: 'failed' });
  await t.throwsAsync(daemon.kms.createDek());
  await t.notThrowsAsync(start(t, config, directory), 'the data directory is free');
});
