import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

/**
 * A session is a text file:
 *
 *     # a comment
 *     $ a shell command
 *     a line of its standard output
 *     ! a line of its standard error
 *     ? its exit code, 0 if the line is missing
 *     % start COMMAND     runs it in the background until it says that it listens
 *     % stop              ends it with SIGTERM and expects exit code 0
 *     % env NAME=VALUE    sets a variable for all that follows
 *
 * `[name]` in an expected line stands for anything without spaces and must be the same wherever it occurs again, in commands
 * too; `[...]` stands for anything. A line `...` stands for any number of lines. Every command runs in one fresh directory,
 * where no daemon, no environment and no other session is met.
 */
interface Step {
  line: number;
  kind: '$' | '%';
  text: string;
  stdout: string[];
  stderr: string[];
  exit: number;
}

const MAIN = resolve('dist/cli/main.js');
/** Only a command that hangs takes so long. */
const COMMAND_TIMEOUT_MS = 180_000;

export function parseSession(text: string): Step[] {
  const steps: Step[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    const step = steps.at(-1);
    if (line.startsWith('$ ') || line.startsWith('% ')) {
      const kind = line[0] as '$' | '%';
      steps.push({ line: index + 1, kind, text: line.slice(2), stdout: [], stderr: [], exit: 0 });
    } else if (line === '' || line.startsWith('#')) continue;
    else if (step === undefined) throw new Error(`line ${index + 1}: output before the first command`);
    else if (line.startsWith('? ')) step.exit = Number(line.slice(2));
    else if (line.startsWith('! ')) step.stderr.push(line.slice(2));
    else step.stdout.push(line);
  }
  return steps;
}

/** Undefined if `actual` is what `expected` says, else the first line that is not. */
export function mismatch(expected: string[], actual: string, names: Map<string, string>): string | undefined {
  const lines = actual === '' ? [] : actual.replace(/\n$/, '').split('\n');
  let at = 0;
  for (const [index, want] of expected.entries()) {
    if (want === '...') {
      const next = expected[index + 1];
      if (next === undefined) return undefined;
      while (at < lines.length && !matches(next, lines[at] as string, new Map(names))) at += 1;
      continue;
    }
    const line = lines[at++];
    if (line === undefined) return `expected "${fill(want, names)}", and there was no more`;
    if (!matches(want, line, names)) return `expected "${fill(want, names)}", got "${line}"`;
  }
  return at < lines.length ? `did not expect "${lines[at]}"` : undefined;
}

function matches(want: string, line: string, names: Map<string, string>): boolean {
  const fresh: string[] = [];
  const pattern = want
    .split(/(\[[a-z][a-z0-9-]*\]|\[\.\.\.\])/)
    .map((part, index) => {
      if (index % 2 === 0) return part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
      if (part === '[...]') return '.*';
      const name = part.slice(1, -1);
      const known = names.get(name);
      if (known !== undefined) return known.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
      if (fresh.includes(name)) return `\\${fresh.indexOf(name) + 1}`;
      fresh.push(name);
      return '(\\S+)';
    })
    .join('');
  const found = new RegExp(`^${pattern}$`).exec(line);
  if (found === null) return false;
  for (const [index, name] of fresh.entries()) names.set(name, found[index + 1] as string);
  return true;
}

function fill(text: string, names: Map<string, string>): string {
  return text.replace(/\[([a-z][a-z0-9-]*)\]/g, (whole, name) => names.get(name) ?? whole);
}

interface Ran {
  exit: number;
  stdout: string;
  stderr: string;
}

/** A fresh directory with the product on its PATH, and perhaps a daemon. */
export class Stage {
  readonly work: string;
  readonly names = new Map<string, string>();
  readonly env: NodeJS.ProcessEnv;
  #daemon: ChildProcess | undefined;
  #said = '';

  private constructor(readonly dir: string) {
    const work = join(dir, 'work');
    this.work = work;
    this.names.set('dir', work);
    this.env = {
      PATH: `${dir}/bin:${process.env['PATH']}`,
      HOME: dir,
      LC_ALL: 'C',
      PROGRESSDB_KMS_SOCKET: join(work, 'kms.sock'),
    };
  }

  static async make(): Promise<Stage> {
    const dir = await mkdtemp(join(tmpdir(), 'pkms-'));
    await mkdir(join(dir, 'bin'));
    await mkdir(join(dir, 'work'));
    const shim = join(dir, 'bin', 'progressdb-kms');
    await writeFile(shim, `#!/bin/sh\nexec '${process.execPath}' '${MAIN}' "$@"\n`);
    await chmod(shim, 0o755);
    return new Stage(dir);
  }

  get #options() {
    return { cwd: this.work, env: this.env };
  }

  run(command: string): Promise<Ran> {
    const options = { ...this.#options, timeout: COMMAND_TIMEOUT_MS, maxBuffer: 64 * 1024 * 1024 };
    return new Promise((done) => {
      const child = execFile('sh', ['-c', command], options, (_, stdout, stderr) => {
        done({ exit: child.exitCode ?? -1, stdout, stderr });
      });
      child.stdin?.end();
    });
  }

  /** Waits until the daemon says that it listens; undefined if it does. */
  async start(command: string): Promise<string | undefined> {
    // `exec`, so that signals and the exit code are the daemon's and not the shell's.
    const daemon = spawn('sh', ['-c', `exec ${command}`], { ...this.#options, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#daemon = daemon;
    this.#said = '';
    for (const stream of [daemon.stdout, daemon.stderr]) stream?.on('data', (data) => (this.#said += String(data)));
    for (let waited = 0; waited < COMMAND_TIMEOUT_MS; waited += 20) {
      if (/"event":"listening"/.test(this.#said)) return undefined;
      if (daemon.exitCode !== null) break;
      await new Promise((wake) => setTimeout(wake, 20));
    }
    return `the daemon did not start: ${this.#said}`;
  }

  async stop(): Promise<string | undefined> {
    const daemon = this.#daemon;
    this.#daemon = undefined;
    if (daemon === undefined) return 'no daemon runs';
    if (daemon.exitCode === null) {
      daemon.kill('SIGTERM');
      await new Promise((ended) => daemon.once('exit', ended));
    }
    return daemon.exitCode === 0 ? undefined : `the daemon ended with ${daemon.exitCode}: ${this.#said}`;
  }

  async clear(): Promise<void> {
    if (this.#daemon !== undefined) await this.stop();
    await rm(this.dir, { recursive: true, force: true });
  }
}

async function direct(text: string, stage: Stage): Promise<string | undefined> {
  const [, verb, rest = ''] = /^(\w+) ?(.*)$/.exec(text) ?? [];
  if (verb === 'start') return await stage.start(rest);
  if (verb === 'stop') return await stage.stop();
  const [, name, value = ''] = /^(\w+)=(.*)$/.exec(rest) ?? [];
  if (verb !== 'env' || name === undefined) return `unknown direction: ${text}`;
  stage.env[name] = value;
  return undefined;
}

async function play(step: Step, stage: Stage): Promise<string | undefined> {
  const text = fill(step.text, stage.names);
  if (step.kind === '%') return await direct(text, stage);
  const ran = await stage.run(text);
  const wrong =
    mismatch(step.stdout, ran.stdout, stage.names) ??
    mismatch(step.stderr, ran.stderr, stage.names) ??
    (ran.exit === step.exit ? undefined : `expected exit code ${step.exit}, got ${ran.exit}`);
  return wrong === undefined ? undefined : `${text}\n${wrong}\nstdout: ${ran.stdout}\nstderr: ${ran.stderr}`;
}

/** Plays a session; throws at the first step that goes another way. */
export async function playSession(path: string): Promise<number> {
  if (!existsSync(MAIN)) throw new Error(`${MAIN} is not built`);
  const steps = parseSession(await readFile(path, 'utf8'));
  const stage = await Stage.make();
  try {
    for (const step of steps) {
      const wrong = await play(step, stage);
      if (wrong !== undefined) throw new Error(`${path}:${step.line}: ${wrong}`);
    }
    return steps.length;
  } finally {
    await stage.clear();
  }
}
