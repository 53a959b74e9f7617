import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Stage } from '../cli/session.js';

/** The daemon, the other server, and a generator for each of them and each protocol. */
const PROCESSES = 5;
/** Without servers: one for each protocol. */
const GENERATORS = 2;
const PATIENCE_MS = 200_000;

/** Everything that a process has started, and what that has. */
function startedBy(pid: number): number[] {
  const lines = execFileSync('ps', ['-A', '-o', 'pid=,ppid=,stat='], { encoding: 'utf8' }).trim().split('\n');
  const processes = lines.map((line) => line.trim().split(/\s+/)).filter(([, , state]) => !state?.startsWith('Z'));
  const found: number[] = [];
  for (let at = 0, parent = pid; ; parent = found[at++] as number) {
    for (const [own, of] of processes) if (Number(of) === parent) found.push(Number(own));
    if (at >= found.length) return found;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function until(holds: () => boolean): Promise<boolean> {
  for (const end = Date.now() + PATIENCE_MS; Date.now() < end; await new Promise((wake) => setTimeout(wake, 50))) {
    if (holds()) return true;
  }
  return holds();
}

interface Ground {
  stage: Stage;
  bench: ChildProcess;
  temporary: string;
  started: number[];
}

/** A measurement that would take minutes, once all of its processes work. */
async function measuring(t: ExecutionContext, ...args: string[]): Promise<Ground> {
  const stage = await Stage.make();
  t.teardown(() => stage.clear());
  const temporary = join(stage.dir, 't');
  mkdirSync(temporary);
  stage.env['TMPDIR'] = temporary;
  if (args.includes('--socket')) t.is(await stage.start('progressdb-kms serve --dev'), undefined);
  const given = ['bench', 'daemon', '--seconds', '60', '--warm-up', '0', '--operations', 'encrypt', ...args];
  const bench = spawn(`${stage.dir}/bin/progressdb-kms`, given, {
    cwd: stage.work,
    env: stage.env,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  t.teardown(() => bench.kill('SIGKILL'));
  const wanted = args.includes('--socket') ? GENERATORS : PROCESSES;
  t.true(await until(() => startedBy(bench.pid as number).length >= wanted), 'its processes started');
  return { stage, bench, temporary, started: startedBy(bench.pid as number) };
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  test.serial(`a measurement that ends by ${signal} leaves no process and no file`, async (t) => {
    const { bench, temporary, started } = await measuring(t);
    const [private_] = readdirSync(temporary);
    t.is(statSync(join(temporary, private_ as string)).mode & 0o777, 0o700);
    t.is(statSync(join(temporary, private_ as string, 'master.key')).mode & 0o777, 0o600);
    bench.kill(signal);
    const [code, by] = await once(bench, 'exit');
    t.is(code, null);
    t.is(by, signal);
    t.deepEqual(started.filter(isAlive), []);
    t.deepEqual(readdirSync(temporary), []);
  });
}

test.serial('what it started ends with it, also where it is killed', async (t) => {
  const { bench, started } = await measuring(t);
  t.is(started.filter(isAlive).length, started.length);
  bench.kill('SIGKILL');
  await once(bench, 'exit');
  t.true(await until(() => !started.some(isAlive)), `${started.filter(isAlive)}`);
});

test.serial('the key in a daemon that runs already is destroyed where the measurement is interrupted', async (t) => {
  const { stage, bench } = await measuring(t, '--socket', 'kms.sock', '--no-baseline');
  bench.kill('SIGINT');
  const [, by] = await once(bench, 'exit');
  t.is(by, 'SIGINT');
  const { stdout } = await stage.run('progressdb-kms keys list --json');
  const { keys } = JSON.parse(stdout) as { keys: Array<{ state: string }> };
  t.deepEqual(
    keys.map(({ state }) => state),
    ['destroyed'],
  );
});
