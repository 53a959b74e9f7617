import { closeSync, openSync, readdirSync, readFileSync, statSync, unlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import { KmsError, type SpawnExit, spawnKms } from '../../dist/client/index.js';
import { listening, optionsIn, runs, scratch, spawned, type Told, until } from './spawned.js';

const text = Buffer.from('a message');

test('what is encrypted through a daemon that was started is decrypted there, and the stop leaves nothing', async (t) => {
  const directory = scratch(t);
  const told: Told[] = [];
  const kms = await spawned(t, optionsIn(directory, { logger: listening(told) }));
  t.is(kms.endpoint, `unix:${kms.socket}`);
  t.is(statSync(kms.socket).mode & 0o777, 0o600);
  t.is(statSync(join(kms.socket, '..')).mode & 0o777, 0o700);
  const client = await kms.connect();
  const { keyId } = await client.createDekForThread('thread');
  const { ciphertext } = await client.encryptWithDek(keyId, text);
  t.deepEqual(Buffer.from(await client.decryptWithDek(keyId, ciphertext)), text);
  await client.close();
  const { pid, socket } = kms;
  t.true(runs(pid!));
  await Promise.all([kms.stop(), kms.stop()]);
  t.false(runs(pid!));
  t.is(kms.pid, undefined);
  t.is(kms.restarts, 0);
  t.throws(() => statSync(join(socket, '..')), { code: 'ENOENT' });
  await t.throwsAsync(kms.connect(), { code: 'STORE_UNAVAILABLE' });
  await kms.stop();
  const events = told.map(({ level, event }) => `${level} ${event}`);
  for (const expected of ['info kms_started', 'info listening', 'info stopped', 'info kms_stopped']) {
    t.true(events.includes(expected), expected);
  }
  t.is(told.find(({ event }) => event === 'listening')!.fields['pid'], pid, 'the fields of its log are there');
  t.false(events.includes('error kms_ended'), 'it was asked to');
});

test('a daemon that is killed is started again on the same socket, and its clients go on', async (t) => {
  const directory = scratch(t);
  const exits: SpawnExit[] = [];
  let early: Promise<string> | undefined;
  const socket = join(directory, 'kms.sock');
  const onExit = (exit: SpawnExit) => {
    exits.push(exit);
    // Nobody serves now: who comes waits for the next one.
    early ??= kms.connect({ deadlineMs: 60_000 }).then(async (client) => {
      const { server } = await client.hello();
      await client.close();
      return server;
    });
  };
  const kms = await spawned(t, optionsIn(directory, { socket, onExit }));
  const { ino } = statSync(socket);
  const client = await kms.connect({ deadlineMs: 60_000 });
  const { keyId } = await client.createDek();
  const { ciphertext } = await client.encryptWithDek(keyId, text);
  const { pid } = kms;
  process.kill(pid!, 'SIGKILL');
  await until(() => exits.length === 1);
  t.deepEqual(exits, [{ pid, code: null, signal: 'SIGKILL', reason: exits[0]!.reason, restartInMs: 100 }]);
  t.is(kms.pid, undefined);
  t.deepEqual(Buffer.from(await client.decryptWithDek(keyId, ciphertext)), text);
  t.truthy(await early);
  t.is(kms.restarts, 1);
  t.not(kms.pid, pid);
  t.is(statSync(socket).ino, ino, 'it was never bound anew');
  await client.close();
});

test('the master key comes by a descriptor, to each daemon in turn', async (t) => {
  const directory = scratch(t);
  const { masterKeyFile, ...options } = optionsIn(directory, { restartMinMs: 1 });
  const fd = openSync(masterKeyFile!, 'r');
  t.teardown(() => closeSync(fd));
  unlinkSync(masterKeyFile!);
  const kms = await spawned(t, { ...options, masterKeyFd: fd });
  const client = await kms.connect({ deadlineMs: 60_000 });
  const { keyId } = await client.createDek();
  const { ciphertext } = await client.encryptWithDek(keyId, text);
  const { pid } = kms;
  process.kill(pid!, 'SIGKILL');
  await until(() => kms.pid !== pid);
  t.deepEqual(Buffer.from(await client.decryptWithDek(keyId, ciphertext)), text);
  await client.close();
});

test('a daemon that cannot start is the reason of a rejection, under its code, and nothing stays', async (t) => {
  const directory = scratch(t);
  const pids: unknown[] = [];
  const logger = listening([], ({ event, fields }) => event === 'kms_started' && pids.push(fields['pid']));
  const options = optionsIn(directory, { logger, socket: join(directory, 'kms.sock') });
  const none = await t.throwsAsync(spawnKms({ ...options, masterKeyFile: join(directory, 'none.key') }), {
    instanceOf: KmsError,
  });
  t.is(none!.code, 'INVALID_ARGUMENT');
  t.regex(none!.message, /the daemon did not start \(exit code 2\): .*none\.key cannot be opened/);
  const empty = await t.throwsAsync(spawnKms({ ...options, flags: ['--no-init'] }), { instanceOf: KmsError });
  t.is(empty!.code, 'STORE_UNAVAILABLE');
  t.regex(empty!.message, /the daemon did not start \(exit code 21\): there is no /, 'and not the hint below it');
  await t.throwsAsync(spawnKms({ ...options, flags: ['--no-such'] }), { message: /unknown option '--no-such'/ });
  t.is(pids.length, 3);
  for (const pid of pids) t.false(runs(pid as number));
  t.deepEqual(readdirSync(directory).sort(), ['data', 'master.key'], 'no socket is left');
});

test('a daemon that does not answer is killed, and so is its successor, which is started again', async (t) => {
  const directory = scratch(t);
  const frozen: number[] = [];
  const freeze = ({ event, fields }: Told) => {
    if (event !== 'kms_started') return;
    frozen.push(fields['pid'] as number);
    if (frozen.length % 2 === 1) process.kill(fields['pid'] as number, 'SIGSTOP');
  };
  const options = optionsIn(directory, { logger: listening([], freeze), startTimeoutMs: 100, restartMinMs: 1 });
  await t.throwsAsync(spawnKms(options), { code: 'DEADLINE_EXCEEDED', message: /the daemon did not answer in 100 ms/ });
  t.is(frozen.length, 1);
  t.false(runs(frozen[0]!));
  // Long enough for the daemon that is not stopped, on a machine that has other things to do; the one that is costs all of it.
  const kms = await spawned(t, { ...options, startTimeoutMs: 25_000 });
  t.is(kms.pid, frozen[1]);
  process.kill(kms.pid!, 'SIGKILL');
  await until(() => frozen.length > 3);
  t.false(runs(frozen[2]!), 'the second one did not come to serve');
  t.is(kms.restarts, 2);
});

test('pauses double up to their bound, and after so many failures in a row it gives up', async (t) => {
  const directory = scratch(t);
  const pauses: Array<number | undefined> = [];
  const reasons: string[] = [];
  const onExit = ({ restartInMs, reason }: SpawnExit) => {
    pauses.push(restartInMs);
    reasons.push(reason);
    if (pauses.length > 1) return;
    unlinkSync(options.masterKeyFile!);
  };
  const options = optionsIn(directory, { onExit, restartMinMs: 10, restartMaxMs: 40, maxRestarts: 4 });
  const kms = await spawned(t, options);
  process.kill(kms.pid!, 'SIGKILL');
  await until(() => pauses.length === 5);
  t.deepEqual(pauses, [10, 20, 40, 40, undefined]);
  t.regex(reasons[4]!, /master\.key cannot be opened/);
  await t.throwsAsync(kms.connect(), { code: 'STORE_UNAVAILABLE', message: /ENOENT/ });
  await kms.stop();
});

test('a daemon that served for long is no failure in a row', async (t) => {
  const pauses: Array<number | undefined> = [];
  const onExit = ({ restartInMs }: SpawnExit) => pauses.push(restartInMs);
  const kms = await spawned(t, optionsIn(scratch(t), { onExit, restartMinMs: 1, restartMaxMs: 2 }));
  for (let round = 1; round <= 2; round++) {
    const client = await kms.connect({ deadlineMs: 60_000 });
    await new Promise((wake) => setTimeout(wake, 5));
    await client.close();
    process.kill(kms.pid!, 'SIGKILL');
    await until(() => pauses.length === round);
  }
  t.deepEqual(pauses, [1, 1]);
});

test('a socket that somebody serves is not taken, and wrong options start nothing', async (t) => {
  const directory = scratch(t);
  const socket = join(directory, 'taken.sock');
  const server = createServer();
  await new Promise<void>((bound) => server.listen(socket, bound));
  t.teardown(() => server.close());
  const told: Told[] = [];
  const options = optionsIn(directory, { logger: listening(told) });
  await t.throwsAsync(spawnKms({ ...options, socket }), { code: 'CONFLICT' });
  const [none] = [join(directory, 'none')];
  for (const wrong of [
    { masterKeyFd: -1 },
    { masterKeyFd: 4711 },
    { allowedUids: [-1] },
    { allowedUids: 1000 },
    { flags: '--dev' },
    { flags: [1] },
    { startTimeoutMs: 0 },
    { restartMinMs: 0.5 },
    { maxRestarts: -1 },
    { stopGraceMs: 2 ** 31 },
    { dataDir: '' },
    { socket: join(none!, 'x'.repeat(120)) },
    { logger: {} },
    { onExit: 'x' },
  ]) {
    await t.throwsAsync(spawnKms({ ...options, ...wrong } as never), { code: 'INVALID_ARGUMENT' }, JSON.stringify(wrong));
  }
  await t.throwsAsync(spawnKms(null as never), { code: 'INVALID_ARGUMENT' });
  const fd = openSync('/dev/null', 'r');
  await t.throwsAsync(spawnKms({ ...options, masterKeyFd: fd }), { message: /masterKeyFd: an open regular file/ });
  closeSync(fd);
  t.deepEqual(told, []);
});

test.serial('a daemon inherits no variable, and has a session of its own', async (t) => {
  const variables = { NODE_OPTIONS: '--no-warnings', NODE_V8_COVERAGE: '/nowhere', NOTIFY_SOCKET: '/nowhere', A_SECRET: 'x' };
  Object.assign(process.env, variables);
  t.teardown(() => {
    for (const name of Object.keys(variables)) delete process.env[name];
  });
  const kms = await spawned(t, optionsIn(scratch(t)));
  if (process.platform !== 'linux') {
    t.log('SKIPPED, NOTHING WAS TESTED: needs /proc');
    t.pass();
    return;
  }
  const [, , group, session] = readFileSync(`/proc/${kms.pid}/stat`, 'latin1')
    .replace(/^.*\) /s, '')
    .split(' ');
  t.deepEqual([group, session], [String(kms.pid), String(kms.pid)]);
  let environment: string;
  try {
    environment = readFileSync(`/proc/${kms.pid}/environ`, 'utf8');
  } catch {
    t.log('SKIPPED: the daemon is not dumpable, so only root may read its environment');
    return;
  }
  t.deepEqual(environment.split('\0'), ['LISTEN_FDS=1', '']);
});
