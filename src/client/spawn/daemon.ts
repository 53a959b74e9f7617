import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Lines } from './lines.js';
import { MASTER_KEY_FD, PARENT_FD, type Settings, type SpawnExit } from './options.js';

const CLI = fileURLToPath(new URL('../../cli/main.js', import.meta.url));

export type Ending = Omit<SpawnExit, 'restartInMs'>;

/** One daemon, from its start to its end. */
export class Daemon {
  /** Never rejects: a daemon that cannot be started has ended. */
  readonly ended: Promise<Ending>;
  private child: ChildProcess | undefined;
  private reason = '';

  constructor(settings: Settings, listener: number, directory: string, said: (line: string) => void) {
    const lines = new Lines((line) => {
      // A hint follows the error that it is about.
      if (!line.startsWith('hint: ')) this.reason = line;
      said(line);
    });
    this.ended = new Promise((resolve) => {
      const end = (code: number | null, signal: NodeJS.Signals | null) => {
        lines.end();
        const pid = this.child?.pid;
        this.child = undefined;
        resolve({ pid, code, signal, reason: this.reason });
      };
      try {
        this.child = launch(settings, listener, directory);
        this.child.on('error', ({ message }) => {
          this.reason = message;
          if (this.child?.pid === undefined) end(null, null);
        });
        // Not at its exit: its last words may come after that.
        this.child.once('close', end);
        this.child.stderr?.setEncoding('utf8').on('data', lines.push);
        // Nothing is said on the pipe that tells it of our end, and how it breaks is no event of its own.
        this.child.stdio?.[PARENT_FD]?.on('error', () => {});
      } catch (error) {
        this.reason = error instanceof Error ? error.message : String(error);
        end(null, null);
      }
    });
  }

  /** Undefined once it has ended. */
  get pid(): number | undefined {
    return this.child?.pid;
  }

  kill(signal: 'SIGTERM' | 'SIGKILL'): void {
    // By the handle: what ended is never signalled, whoever has its number by now.
    this.child?.kill(signal);
  }

  /** SIGTERM, and SIGKILL when that did not help in time, which ends one that is stopped (SIGSTOP) as well. */
  async stop(graceMs: number): Promise<void> {
    this.kill('SIGTERM');
    const timer = setTimeout(() => this.kill('SIGKILL'), graceMs);
    await this.ended;
    clearTimeout(timer);
  }
}

/**
 * In a session of its own, since who stops the parent with the keys of a terminal means the parent, which may want its keys to
 * the end. That it does not outlive the parent is for the pipe: its other end goes with the parent, whatever ends that.
 */
function launch({ args, masterKeyFd, credentials }: Settings, listener: number, directory: string): ChildProcess {
  const stdio = ['ignore', 'ignore', 'pipe', listener, 'pipe'] as Array<'ignore' | 'pipe' | number>;
  if (masterKeyFd !== undefined) stdio[MASTER_KEY_FD] = masterKeyFd;
  const env = {
    LISTEN_FDS: '1',
    CREDENTIALS_DIRECTORY: credentials,
    // Node hands this one on unless it is named.
    NODE_V8_COVERAGE: undefined,
  };
  return spawn(process.execPath, [CLI, ...args], { stdio, env, cwd: directory, detached: true });
}
