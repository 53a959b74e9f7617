// Child processes of the benchmark: each server on one core, whatever drives it on the other.
import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BUILD } from './programs.js';

const onPath = (name) => (process.env.PATH ?? '').split(delimiter).some((dir) => dir !== '' && existsSync(join(dir, name)));

export const PINNED = availableParallelism() >= 2 && onPath('taskset');
export const SERVER_CORE = 0;
export const DRIVER_CORE = 1;
/** Where the threads of one process are to have a core each. */
export const ANYWHERE = -1;

/** The command on that core alone, where cores can be chosen. */
export function onCore(core, command) {
  return PINNED && core !== ANYWHERE ? ['taskset', '-c', String(core), ...command] : command;
}

/** On a terminal what servers say would break the bar that is drawn there. */
const SERVERS_LOG = join(BUILD, 'servers.log');

function spawnServer(file, args) {
  const output = process.stderr.isTTY ? openSync(SERVERS_LOG, 'a') : 2;
  try {
    return spawn(file, args, { stdio: ['ignore', output, output] });
  } finally {
    if (output !== 2) closeSync(output);
  }
}

/** Starts a server and waits until its socket is there; its own output goes to the error stream of the run, or bench/build/servers.log. */
export async function startServer(command, socket, core = SERVER_CORE) {
  const [file, ...args] = onCore(core, command);
  const child = spawnServer(file, args);
  const failed = new Promise((_, reject) => child.once('error', reject));
  const ready = (async () => {
    for (let waited = 0; !existsSync(socket); waited += 50) {
      if (child.exitCode !== null) throw new Error(`${command.join(' ')}: exited with ${child.exitCode} before it listened`);
      if (waited > 20_000) throw new Error(`${command.join(' ')}: no socket after 20 s`);
      await sleep(50);
    }
  })();
  try {
    await Promise.race([ready, failed]);
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }
  return child;
}

/** Ends a child with SIGTERM, after ten seconds with SIGKILL. */
export async function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGTERM');
  const late = setTimeout(() => child.kill('SIGKILL'), 10_000);
  await gone;
  clearTimeout(late);
}

/** A master key file such as `progressdb-kms init` makes, for a store that lives as long as the benchmark. */
export function writeMasterKey(dir) {
  const path = join(dir, 'master.key');
  writeFileSync(path, `${randomBytes(32).toString('hex')}\n`, { mode: 0o600 });
  return path;
}

/** Runs a load generator to its end, on the core of drivers unless told, and gives back the line of JSON it prints. */
export function runLoad(command, core = DRIVER_CORE) {
  const [file, ...args] = onCore(core, command);
  return new Promise((resolve, reject) => {
    execFile(file, args.map(String), (error, stdout, stderr) => {
      if (error) reject(new Error(`${command[0]}: ${stderr.trim() || error.message}`));
      else resolve(JSON.parse(stdout));
    });
  });
}

/** A node child that answers each message it is sent with one message. `ask` rejects when it dies or answers `{error}`. */
export async function startWorker(script, args, { core, execArgv = [], node = process.execPath } = {}) {
  const command = [node, ...execArgv, script, ...args];
  const [file, ...rest] = core === undefined ? command : onCore(core, command);
  const child = spawn(file, rest, { stdio: ['ignore', 2, 2, 'ipc'] });
  const next = () =>
    new Promise((resolve, reject) => {
      const settle = (message) => {
        child.off('exit', died);
        if (message.error) reject(new Error(message.error));
        else resolve(message);
      };
      const died = (code, signal) => reject(new Error(`${script}: exited with ${code ?? signal}`));
      child.once('message', settle);
      child.once('exit', died);
    });
  await next();
  const ask = (message) => {
    const answer = next();
    child.send(message);
    return answer;
  };
  return { child, ask };
}

/** Lets a worker leave on its own, so that it wipes and removes what it holds. */
export async function stopWorker({ child }) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.disconnect();
  const late = setTimeout(() => child.kill('SIGKILL'), 10_000);
  await gone;
  clearTimeout(late);
}

/** The child's side of `startWorker`: says that it is ready, then answers. */
export function answerMessages(answer) {
  process.on('message', async (message) => {
    try {
      process.send(await answer(message));
    } catch (error) {
      process.send({ error: error?.stack ?? String(error) });
    }
  });
  process.on('disconnect', () => process.exit());
  process.send({ ready: true });
}
