import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { Ground } from './ground.js';

/** Nothing outlives the tests, however they end. */
const alive = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of alive) child.kill('SIGKILL');
});

/** A process of the product that can be killed at any instant. */
export class Child {
  readonly process: ChildProcess;
  /** Whole lines of its standard output so far; what was cut off by the kill is not one. */
  readonly lines: string[] = [];
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  errors = '';
  onLine: (line: string) => void = () => {};
  #tail = '';

  /** `under` is a command that runs this one and keeps its process id. */
  constructor(args: string[], env: NodeJS.ProcessEnv = {}, under: readonly string[] = []) {
    const [command, ...rest] = [...under, process.execPath, ...args] as [string, ...string[]];
    this.process = spawn(command, rest, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: process.env['PATH'], ...env },
    });
    alive.add(this.process);
    this.process.stdout?.setEncoding('utf8').on('data', (text: string) => this.#take(text));
    this.process.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.errors += text;
    });
    this.ended = once(this.process, 'close').then(([code, signal]) => {
      alive.delete(this.process);
      return { code, signal };
    });
  }

  get pid(): number {
    return this.process.pid as number;
  }

  #take(text: string): void {
    const parts = (this.#tail + text).split('\n');
    this.#tail = parts.pop() as string;
    for (const line of parts) {
      this.lines.push(line);
      this.onLine(line);
    }
  }

  /** SIGKILL, and everything it had written is read when this resolves. */
  async kill(): Promise<void> {
    this.process.kill('SIGKILL');
    await this.ended;
  }

  /** SIGTERM; throws unless it ends cleanly. */
  async stop(): Promise<void> {
    this.process.kill('SIGTERM');
    await this.finished();
  }

  async finished(): Promise<void> {
    const { code, signal } = await this.ended;
    if (code !== 0) throw new Error(`ended with ${code ?? signal}: ${this.errors}`);
  }
}

/** `progressdb-kms serve` in a process of its own. */
export class ChildDaemon extends Child {
  /** Resolves when it listens; rejects if it ends before. */
  readonly ready: Promise<void>;

  constructor(ground: Ground, nodeOptions: string[] = [], under: readonly string[] = [], flags: readonly string[] = []) {
    const files = ['--data-dir', ground.dataDir, '--master-key-file', ground.keyFile, '--socket', ground.socket];
    super([...nodeOptions, resolve('dist/cli/main.js'), 'serve', ...files, ...flags], {}, under);
    this.ready = this.#listening();
    this.ready.catch(() => {});
  }

  async #listening(): Promise<void> {
    const lines = createInterface({ input: this.process.stderr! });
    const listens = new Promise<boolean>((found) => {
      lines.on('line', (line) => {
        if (line.includes('"event":"listening"')) found(true);
      });
    });
    if (!(await Promise.race([listens, this.ended.then(() => false)]))) throw new Error(`did not start: ${this.errors}`);
  }
}

/** A process that embeds the provider and runs one of the lives of `embedded-child.ts`. */
export function embeddedChild(life: string, ground: Ground, ...args: string[]): Child {
  return new Child([resolve('dist-test/crash/embedded-child.js'), life, ground.dataDir, ground.keyFile, ...args]);
}
