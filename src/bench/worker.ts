import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { ERROR_TABLE, KmsError } from '../errors.js';
import type { Said, Tell } from './worker-side.js';

const CLI = fileURLToPath(new URL('../cli/main.js', import.meta.url));
/** Its words of distress, which end with the reason. */
const MAX_WORDS = 4_096;

export type Role = 'embedded' | 'generator' | 'plain-server';

/** A process that measures or is measured, so that neither the clock nor the server waits for what is shown meanwhile. */
export class Worker {
  private words = '';

  private constructor(
    private readonly role: Role,
    private readonly child: ChildProcess,
  ) {
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.words = (this.words + text).slice(-MAX_WORDS);
    });
    child.on('error', ({ message }) => {
      this.words = message;
    });
  }

  /** The channel to it breaks with this process, whatever ends that, and it goes then. */
  static async start(role: Role, signal: AbortSignal): Promise<Worker> {
    signal.throwIfAborted();
    const child = spawn(process.execPath, ['--expose-gc', CLI, 'bench-worker', role], {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    const worker = new Worker(role, child);
    signal.addEventListener('abort', worker.kill, { once: true });
    child.once('exit', () => signal.removeEventListener('abort', worker.kill));
    await worker.next(undefined);
    return worker;
  }

  get pid(): number | undefined {
    return this.child.pid;
  }

  /** Rejects with what the worker's error was, or INTERNAL if it ended. */
  async ask<Answer>(question: object, tell?: Tell): Promise<Answer> {
    const answer = this.next<Answer>(tell);
    if (this.child.connected) this.child.send(question);
    return await answer;
  }

  /** Lets it go, and kills it if it does not. */
  async stop(): Promise<void> {
    const { child } = this;
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
    const gone = once(child, 'exit');
    if (child.connected) child.disconnect();
    const timer = setTimeout(this.kill, 5_000);
    await gone;
    clearTimeout(timer);
  }

  private readonly kill = (): void => {
    this.child.kill('SIGKILL');
  };

  private next<Answer>(tell: Tell | undefined): Promise<Answer> {
    const { child } = this;
    return new Promise((done, fail) => {
      const settle = () => {
        child.off('message', hear);
        child.off('close', ended);
        child.off('error', ended);
      };
      const hear = (said: Said<Answer>) => {
        if ('done' in said) return tell?.(said.done);
        settle();
        if ('error' in said) fail(failureOf(said.error));
        else done(said.answer);
      };
      const ended = () => {
        settle();
        const reason = this.words.trimEnd().split('\n').at(-1) || (child.signalCode ?? 'it said nothing');
        const cause = new Error(`the ${this.role} process of the measurement ended: ${reason}`);
        fail(new KmsError('INTERNAL', undefined, { cause }));
      };
      child.on('message', hear);
      child.once('close', ended);
      child.once('error', ended);
      if (child.exitCode !== null || child.signalCode !== null) ended();
    });
  }
}

/** The worker's own error again. An unknown one keeps its message as the cause, which the command line shows. */
function failureOf({ code, message }: { code: KmsError['code']; message: string }): KmsError {
  const detail = message.slice(ERROR_TABLE[code].message.length).replace(/^: /, '');
  if (code === 'INTERNAL') return new KmsError(code, undefined, { cause: new Error(detail || message) });
  return new KmsError(code, detail || undefined);
}
