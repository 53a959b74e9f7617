import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Writable } from 'node:stream';
import test, { type ExecutionContext } from 'ava';
import { OP } from '../../dist/wire/frames.js';
import { Peer } from './peer.js';
import { scratch } from './running.js';

const CLI = resolve('dist/cli/main.js');

interface Started {
  child: ChildProcess;
  socket: string;
  ended: Promise<unknown[]>;
  said(): string;
  serves: Promise<void>;
}

/** A daemon that watches descriptor 3, which is `end`: a pipe to us, or a file. */
function watching(t: ExecutionContext, end: 'pipe' | number, ...flags: string[]): Started {
  const socket = join(scratch(t), 'kms.sock');
  const args = [CLI, 'serve', '--dev', '--socket', socket, '--parent-fd', '3', ...flags];
  const child = spawn(process.execPath, args, { env: {}, stdio: ['ignore', 'ignore', 'pipe', end] });
  t.teardown(() => child.kill('SIGKILL'));
  let said = '';
  const serves = new Promise<void>((done) => {
    child.stderr!.on('data', (bytes) => {
      said += bytes;
      if (said.includes('"listening"')) done();
    });
  });
  const ended = once(child, 'close');
  return { child, socket, ended, said: () => said, serves: Promise.race([serves, ended.then(() => {})]) };
}

test('the end of the pipe stops the daemon gracefully', async (t) => {
  const { child, socket, ended, said, serves } = watching(t, 'pipe');
  await serves;
  const peer = await Peer.connect(socket);
  const end = child.stdio[3] as Writable;
  end.write('what is said there is nothing to it');
  t.is(await peer.outcome(OP.createDek, null), 'OK');
  end.destroy();
  t.deepEqual(await ended, [0, null]);
  await peer.closed;
  t.false(existsSync(socket));
  t.regex(said(), /"parent_gone"/);
  t.regex(said(), /"stopped"/);
});

test('a pipe that was closed before the daemon looked stops it too', async (t) => {
  const { child, ended } = watching(t, 'pipe');
  (child.stdio[3] as Writable).destroy();
  t.deepEqual(await ended, [0, null]);
});

test('the end of the pipe during a stop is no second signal', async (t) => {
  const { child, ended, said, serves } = watching(t, 'pipe');
  await serves;
  child.kill('SIGTERM');
  (child.stdio[3] as Writable).destroy();
  t.deepEqual(await ended, [0, null]);
  t.notRegex(said(), /stopped_at_once/);
});

test('what is neither a pipe nor a socket is refused', async (t) => {
  const missing = watching(t, 'pipe', '--parent-fd', '77');
  t.deepEqual(await missing.ended, [2, null]);
  t.regex(missing.said(), /^progressdb-kms: invalid argument: --parent-fd: descriptor 77 /);
  const file = watching(t, 2, '--parent-fd', '1');
  t.deepEqual(await file.ended, [2, null]);
});
