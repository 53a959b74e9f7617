import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, renameSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { Journal } from '../../dist/daemon/log.js';
import { binding } from '../../dist/native.js';
import { OP } from '../../dist/wire/frames.js';
import { DIGITS } from './config-files.js';
import { Peer } from './peer.js';
import { scratch } from './running.js';

const OWN = process.geteuid?.() ?? -1;
const OTHER = OWN + 4242;

interface Place {
  child: ChildProcess;
  socket: string;
  log: string;
  /** Lines of the log with this event, when there are at least so many. */
  events(event: string, count?: number): Promise<Array<Record<string, unknown>>>;
  /** Writes the file anew and sends the signal. */
  reload(yaml: string): void;
}

/** A daemon in a process of its own, with a file that names the socket, the log and the key beside `yaml`. */
async function daemonOf(t: ExecutionContext, yaml: string): Promise<Place> {
  const directory = scratch(t);
  const [socket, log, key, config] = ['kms.sock', 'kms.log', 'key', 'kms.yaml'].map((name) => join(directory, name));
  binding.writeKeyFile(key!);
  const fixed = `listen: {socket: ${socket}}\nmaster_key_file: ${key}\n`;
  const write = (text: string) => writeFileSync(config!, fixed + text, { mode: 0o600 });
  write(`${yaml}log: {file: ${log}}\n`);
  const args = [resolve('dist/cli/main.js'), 'serve', '--config', config!, '--data-dir', join(directory, 'data')];
  const child = spawn(process.execPath, args, { stdio: 'ignore', env: {} });
  t.teardown(() => child.kill('SIGKILL'));
  const events = async (event: string, count = 1) => {
    for (;;) {
      const lines = readLines(log!).filter((line) => line['event'] === event);
      if (lines.length >= count) return lines;
      if (child.exitCode !== null) throw new Error(`the daemon ended: ${JSON.stringify(readLines(log!))}`);
      await delay(10);
    }
  };
  await events('listening');
  const reload = (text: string) => {
    write(text);
    child.kill('SIGHUP');
  };
  return { child, socket: socket!, log: log!, events, reload };
}

function readLines(path: string): Array<Record<string, unknown>> {
  try {
    const text = readFileSync(path, 'utf8');
    return text
      .slice(0, text.lastIndexOf('\n') + 1)
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line));
  } catch {
    return [];
  }
}

const AUDITOR = `auth: {auditor_uids: [${OWN}], admin_uids: [${OTHER}]}\n`;
const CLIENT = `auth: {allowed_uids: [${OWN}], admin_uids: [${OTHER}]}\n`;

test('a hangup changes who may do what without a restart, and names what it cannot change', async (t) => {
  const { child, socket, log, events, reload } = await daemonOf(t, AUDITOR);
  const before = await Peer.connect(socket);
  t.is(await before.outcome(OP.status), 'OK');
  t.is(await before.outcome(OP.createDek, null), 'PERMISSION_DENIED');

  reload(`${CLIENT}log: {file: ${log}, level: debug}\ncache: {cached_keys: 7}\n`);
  const [first] = await events('reloaded');
  t.like(first, {
    changed: 'auth.allowed_uids, auth.auditor_uids, log.level',
    needs_restart: 'cache.cached_keys',
  });
  await before.closed;
  t.is(child.exitCode, null);
  const after = await Peer.connect(socket);
  t.is(await after.outcome(OP.createDek, null), 'OK');
  t.is(await after.outcome(OP.status), 'PERMISSION_DENIED');

  reload(`${CLIENT}log: {file: ${log}, level: debug}\ncache: {cached_keys: 7}\n`);
  const [, second] = await events('reloaded', 2);
  t.like(second, { changed: '', needs_restart: 'cache.cached_keys' }, 'what needs a restart stays named');
  t.is(await after.outcome(OP.createDek, null), 'OK', 'who may do the same as before stays connected');
  await after.close();
});

test('a configuration that cannot be had is logged, and the old one stays', async (t) => {
  const { socket, log, events, reload } = await daemonOf(t, CLIENT);
  const peer = await Peer.connect(socket);
  reload(`auth: {allowed_uids: [x]}\nlog: {file: ${log}}\n`);
  const [failed] = await events('reload_failed');
  t.regex(String(failed?.['message']), /kms\.yaml:3: auth\.allowed_uids: must be user ids/);
  reload(`${AUDITOR}log: {file: /absent/kms.log}\n`);
  const [, unwritable] = await events('reload_failed', 2);
  t.regex(String(unwritable?.['message']), /\/absent\/kms\.log cannot be opened: ENOENT/);
  t.is(await peer.outcome(OP.createDek, null), 'OK');
  await peer.close();
});

test('after a rotation of the log a hangup opens the file anew', async (t) => {
  const { child, log, events, reload } = await daemonOf(t, CLIENT);
  t.is(statSync(log).mode & 0o777, 0o600);
  renameSync(log, `${log}.1`);
  reload(`${CLIENT}log: {file: ${log}}\n`);
  t.like((await events('reloaded'))[0], { changed: '', needs_restart: '' });
  t.true(readLines(`${log}.1`).some(({ event }) => event === 'listening'));
  child.kill('SIGTERM');
  await once(child, 'exit');
  t.is(child.exitCode, 0);
  t.true(readLines(log).some(({ event }) => event === 'stopped'));
});

test('a key in the configuration is warned of in the log, and stands nowhere in it', async (t) => {
  const directory = scratch(t);
  const [config, log] = [join(directory, 'kms.yaml'), join(directory, 'kms.log')];
  writeFileSync(config, `master_key_hex: ${DIGITS}\nlog_file: ${log}\nsocket: ${directory}/s\n`, { mode: 0o600 });
  const args = [resolve('dist/cli/main.js'), '--config', config, '--data-dir', join(directory, 'data'), '--verbose'];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'], env: {} });
  t.teardown(() => child.kill('SIGKILL'));
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes) => (said += bytes));
  while (!readLines(log).some(({ event }) => event === 'listening') && child.exitCode === null) await delay(10);
  const [warning] = readLines(log).filter(({ event }) => event === 'master_key_in_config');
  t.is(warning?.['source'], `${config}:1 master_key_hex`);
  child.kill('SIGHUP');
  while (!readLines(log).some(({ event }) => event === 'reloaded') && child.exitCode === null) await delay(10);
  child.kill('SIGTERM');
  await once(child, 'exit');
  t.is(child.exitCode, 0);
  const told = said + readFileSync(log, 'utf8');
  t.false(told.includes(DIGITS.slice(0, 16)));
  t.true(readFileSync(config, 'utf8').includes(DIGITS.slice(0, 16)), 'it would be found');
});

test('the log keeps what is at least of its level, and follows a change of level and file', (t) => {
  const directory = scratch(t);
  const [one, other] = [join(directory, 'one'), join(directory, 'other')];
  const journal = new Journal({ logFile: one, logLevel: 'warn' });
  journal.log('info', 'a');
  journal.log('warn', 'b');
  journal.replace({ logFile: other, logLevel: 'debug' });
  journal.log('debug', 'c');
  journal.close();
  t.deepEqual(
    [readLines(one), readLines(other)].map((lines) => lines.map(({ event }) => event)),
    [['b'], ['c']],
  );
  const again = new Journal({ logFile: one, logLevel: 'info' });
  again.log('info', 'd');
  t.throws(() => again.replace({ logFile: join(directory, 'absent', 'x'), logLevel: 'info' }), {
    message: /cannot be opened: ENOENT/,
  });
  again.log('info', 'e');
  again.close();
  t.deepEqual(
    readLines(one).map(({ event }) => event),
    ['b', 'd', 'e'],
    'appended, also after a file that could not be had',
  );
});

test('a log file that is a link, a directory or a device is refused', (t) => {
  const directory = scratch(t);
  mkdirSync(join(directory, 'folder'));
  symlinkSync(join(directory, 'target'), join(directory, 'link'));
  for (const path of [join(directory, 'link'), join(directory, 'folder'), '/dev/null']) {
    t.throws(() => new Journal({ logFile: path, logLevel: 'info' }), { code: 'INVALID_ARGUMENT', message: new RegExp(path) });
  }
});
