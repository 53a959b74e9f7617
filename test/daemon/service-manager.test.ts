import { once } from 'node:events';
import { join } from 'node:path';
import test from 'ava';
import type { Fields } from '../../dist/daemon/log.js';
import { takeServiceManager } from '../../dist/daemon/service-manager.js';
import { OP } from '../../dist/wire/frames.js';
import { Manager, started } from './manager.js';
import { Peer } from './peer.js';
import { scratch } from './running.js';

const silent = () => {};

test('a daemon says that it is ready, that it reloads and is ready again, and that it stops', async (t) => {
  const directory = scratch(t);
  const address = join(directory, 'notify');
  const manager = await Manager.at(t, address);
  const child = started(t, directory, { NOTIFY_SOCKET: address });
  await manager.until(() => manager.states.length === 1);
  const READY = ['READY=1', `STATUS=serving on ${directory}/kms.sock`];
  t.deepEqual(manager.states, [READY]);
  const peer = await Peer.connect(join(directory, 'kms.sock'));
  t.is(await peer.outcome(OP.createDek, null), 'OK', 'it was');
  await peer.close();
  const before = process.hrtime.bigint() / 1000n;
  child.kill('SIGHUP');
  await manager.until(() => manager.states.length === 3);
  const [reloading, time] = manager.states[1]!;
  t.is(reloading, 'RELOADING=1');
  const [, usec] = /^MONOTONIC_USEC=(\d+)$/.exec(time!)!;
  t.true(BigInt(usec!) >= before && BigInt(usec!) <= process.hrtime.bigint() / 1000n);
  t.deepEqual(manager.states[2], READY);
  child.kill('SIGTERM');
  t.deepEqual(await once(child, 'exit'), [0, null]);
  await manager.until(() => manager.states.length === 4);
  t.deepEqual(manager.states[3], ['STOPPING=1', 'STATUS=stopping']);
  t.is(manager.beats, 0, 'nobody asked for them');
  t.deepEqual([...new Set(manager.messages.map(({ pid }) => pid))], [child.pid]);
});

test('a watched daemon beats, also while it is sealed', async (t) => {
  const directory = scratch(t);
  // An abstract name belongs to the machine.
  const address = process.platform === 'linux' ? `@kms-test-${process.pid}` : join(directory, 'notify');
  const manager = await Manager.at(t, address);
  const child = started(t, directory, { NOTIFY_SOCKET: address, WATCHDOG_USEC: '20000' });
  await manager.until(() => manager.beats > 2);
  const peer = await Peer.connect(join(directory, 'kms.sock'));
  t.is(await peer.outcome(OP.seal), 'OK');
  const { beats } = manager;
  await manager.until(() => manager.beats > beats + 2);
  t.is(await peer.outcome(OP.createDek, null), 'SEALED');
  await peer.close();
  child.kill('SIGTERM');
  t.deepEqual(await once(child, 'exit'), [0, null]);
});

test('there is no beat but those of an event loop that turns', async (t) => {
  const directory = scratch(t);
  const manager = await Manager.at(t, join(directory, 'notify'));
  const env = { NOTIFY_SOCKET: join(directory, 'notify'), WATCHDOG_USEC: '200000', WATCHDOG_PID: String(process.pid) };
  const ours = takeServiceManager(env, silent);
  t.deepEqual(env as unknown, {});
  let checks = 0;
  ours.watch(async () => checks++);
  await manager.until(() => manager.beats > 2);
  for (const end = Date.now() + 500; Date.now() < end; );
  ours.stopping();
  const made = checks;
  await manager.until(() => manager.states.length === 1);
  const stopping = manager.messages.findIndex(({ text }) => text.startsWith('STOPPING=1'));
  // A beat that a busy manager does not take is lost.
  t.true(stopping > 2 && stopping <= made, `messages come in order: ${stopping} were said before, for ${made}`);
});

test('no beat while the self-check fails or does not answer, and beats again when it does', async (t) => {
  const directory = scratch(t);
  const manager = await Manager.at(t, join(directory, 'notify'));
  const logged: string[] = [];
  const ours = takeServiceManager({ NOTIFY_SOCKET: join(directory, 'notify'), WATCHDOG_USEC: '2000' }, (level, event) =>
    logged.push(`${level} ${event}`),
  );
  let checks = 0;
  let answer: (() => void) | undefined;
  ours.watch(async () => {
    checks++;
    if (checks <= 3) throw new Error('broken');
    if (checks === 4) {
      await new Promise<void>((resolve) => {
        answer = resolve;
      });
    }
  });
  while (answer === undefined) await new Promise((turn) => setTimeout(turn, 1));
  for (let beat = 0; beat < 5; beat++) await new Promise((turn) => setTimeout(turn, 2));
  ours.stopping();
  await manager.until(() => manager.states.length === 1);
  t.is(checks, 4, 'one at a time');
  t.is(manager.beats, 0);
  t.deepEqual(logged, Array(3).fill('error watchdog_withheld'));
  answer();
  await manager.until(() => manager.beats > 2);
});

test('only the process that is named is watched', async (t) => {
  const directory = scratch(t);
  const manager = await Manager.at(t, join(directory, 'notify'));
  let checks = 0;
  for (const [watchdog, own] of [
    [{ WATCHDOG_USEC: '2000', WATCHDOG_PID: '7' }, 8],
    [{ WATCHDOG_USEC: '' }, 7],
    [{ WATCHDOG_PID: '7' }, 7],
    [{}, 7],
  ] as const) {
    const ours = takeServiceManager({ NOTIFY_SOCKET: join(directory, 'notify'), ...watchdog }, silent, own);
    ours.watch(async () => checks++);
    ours.ready('serving');
  }
  await manager.until(() => manager.states.length === 4);
  t.is(checks, 0);
  const named = takeServiceManager(
    { NOTIFY_SOCKET: join(directory, 'notify'), WATCHDOG_USEC: '2000', WATCHDOG_PID: '7' },
    silent,
    7,
  );
  named.watch(async () => checks++);
  await manager.until(() => manager.beats > 0);
});

test('a status is one line', async (t) => {
  const directory = scratch(t);
  const manager = await Manager.at(t, join(directory, 'notify'));
  takeServiceManager({ NOTIFY_SOCKET: join(directory, 'notify') }, silent).ready('serving on /a\nWATCHDOG=trigger');
  await manager.until(() => manager.states.length === 1);
  t.deepEqual(manager.states, [['READY=1', 'STATUS=serving on /a?WATCHDOG=trigger']]);
});

test('a manager that cannot be told is said once, and one that is not there not at all', (t) => {
  const logged: Array<[string, Fields | undefined]> = [];
  const log = (_: string, event: string, fields?: Fields) => logged.push([event, fields]);
  const gone = takeServiceManager({ NOTIFY_SOCKET: join(scratch(t), 'none') }, log);
  gone.ready('serving');
  gone.stopping();
  t.is(logged.length, 1);
  t.is(logged[0]![0], 'service_manager_not_told');
  const none = takeServiceManager({ WATCHDOG_USEC: '2000' }, log);
  none.ready('serving');
  none.watch(() => Promise.reject(new Error('asked')));
  t.is(logged.length, 1);
});

test('a watchdog of no time is none, and that is said', (t) => {
  for (const WATCHDOG_USEC of ['0', 'x', '-1', '1e3']) {
    const logged: string[] = [];
    const ours = takeServiceManager({ NOTIFY_SOCKET: '/none', WATCHDOG_USEC }, (level, event) =>
      logged.push(`${level} ${event}`),
    );
    ours.watch(() => Promise.reject(new Error('asked')));
    t.deepEqual(logged, ['warn watchdog_ignored']);
  }
});
