import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import test, { type ExecutionContext } from 'ava';
import type { SpawnExit, SpawnOptions } from '../../dist/client/index.js';
import { optionsIn, runs, scratch, spawned, until } from './spawned.js';

const SPAWNER = resolve('dist-test/client/spawner.js');

interface Service {
  service: ChildProcess;
  pid: number;
  socket: string;
}

/** A process of its own that starts a daemon, and then does as told. */
async function serviceOf(t: ExecutionContext, then: string, options: SpawnOptions = {}): Promise<Service> {
  // What cannot be told as JSON is not for it.
  const directory = scratch(t);
  const { logger: _, ...plain } = optionsIn(directory, options);
  const service = spawn(process.execPath, [SPAWNER, JSON.stringify({ options: plain, then })], {
    stdio: ['ignore', 'pipe', 'ignore'],
    // Who is killed leaves the directory of the socket behind.
    env: { PATH: process.env['PATH'], TMPDIR: directory },
  });
  t.teardown(() => service.kill('SIGKILL'));
  const [line] = await once(createInterface({ input: service.stdout! }), 'line');
  const told = JSON.parse(line) as { pid: number; socket: string };
  t.teardown(() => {
    // Only where the test failed.
    if (runs(told.pid)) process.kill(told.pid, 'SIGKILL');
  });
  return { service, ...told };
}

test('a daemon does not outlive a service that is killed', async (t) => {
  const { service, pid } = await serviceOf(t, 'stay');
  t.true(runs(pid));
  service.kill('SIGKILL');
  await until(() => !runs(pid));
  t.pass();
});

for (const [then, how] of [
  ['exit', 'that ends without a stop'],
  ['throw', 'that a fault ends'],
] as const) {
  test(`a service ${how} leaves neither a daemon nor a socket`, async (t) => {
    const { pid, socket } = await serviceOf(t, then);
    await until(() => !runs(pid));
    t.false(existsSync(join(socket, '..')));
  });
}

test('a daemon does not outlive the thread that started it', async (t) => {
  const { service, pid, socket } = await serviceOf(t, 'end-worker');
  await until(() => !runs(pid) && !existsSync(socket));
  t.is(service.exitCode, null, 'the process is still there');
  service.kill('SIGKILL');
});

test('a stop during the pause before a restart starts nothing more', async (t) => {
  const exits: SpawnExit[] = [];
  const kms = await spawned(
    t,
    optionsIn(scratch(t), { onExit: (exit) => exits.push(exit), restartMinMs: 300_000, restartMaxMs: 300_000 }),
  );
  process.kill(kms.pid!, 'SIGKILL');
  await until(() => exits.length === 1);
  await Promise.all([kms.stop(), kms.stop()]);
  t.is(kms.pid, undefined);
  t.is(kms.restarts, 0);
  t.false(existsSync(kms.socket));
});

test('a stop by the notice of an end starts nothing more', async (t) => {
  let stopped: Promise<void> | undefined;
  const kms = await spawned(
    t,
    optionsIn(scratch(t), {
      restartMinMs: 1,
      onExit: () => {
        stopped = kms.stop();
      },
    }),
  );
  process.kill(kms.pid!, 'SIGKILL');
  await until(() => stopped !== undefined);
  await stopped;
  t.is(kms.restarts, 0);
});

test('a stop while a daemon is being started ends that one', async (t) => {
  const kms = await spawned(t, optionsIn(scratch(t), { restartMinMs: 1 }));
  process.kill(kms.pid!, 'SIGKILL');
  await until(() => kms.restarts === 1);
  const { pid } = kms;
  await kms.stop();
  t.false(runs(pid!));
  t.is(kms.restarts, 1);
  t.false(existsSync(kms.socket));
});

test('a daemon that does not heed the stop is killed', async (t) => {
  const exits: SpawnExit[] = [];
  const kms = await spawned(t, optionsIn(scratch(t), { stopGraceMs: 100, onExit: (exit) => exits.push(exit) }));
  const { pid } = kms;
  process.kill(pid!, 'SIGSTOP');
  await kms.stop();
  t.false(runs(pid!));
  t.deepEqual(exits, []);
});

test('what is under way at the stop is answered', async (t) => {
  const kms = await spawned(t, optionsIn(scratch(t)));
  const client = await kms.connect();
  const asked = Array.from({ length: 50 }, (_, index) => client.createDekForThread(`thread-${index}`));
  await Promise.race(asked);
  const stopped = kms.stop();
  t.is((await Promise.all(asked)).length, 50);
  await stopped;
  await client.close();
});
