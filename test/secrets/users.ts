import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { Job } from './other-user.js';
import { Printed, saying } from './served.js';

/** Why no process can become another user here; undefined if one can. */
export function becomingHindrance(): string | undefined {
  return process.geteuid?.() === 0 ? undefined : 'needs root to become another user';
}

const PARTS = ['package.json', 'dist', 'build/Release/progressdb_kms.node', 'dist-test/secrets/other-user.js'];

/** The folders of the packages, and of all that they need. */
function packages(names: readonly string[], found = new Set<string>()): Set<string> {
  for (const name of names) {
    const folder = `node_modules/${name}`;
    if (found.has(folder)) continue;
    found.add(folder);
    const { dependencies = {} } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    packages(Object.keys(dependencies), found);
  }
  return found;
}

/** The product where every user may read it: a checkout may be closed to all but its owner. */
export class Installation {
  private readonly directory = mkdtempSync(join(tmpdir(), 'kms-users-'));

  constructor() {
    const parts = [...PARTS, ...packages(['msgpackr', 'node-gyp-build', 'pino', 'yaml', 'zod'])];
    for (const part of parts) cpSync(part, join(this.directory, part), { recursive: true, dereference: true });
    execFileSync('chmod', ['-R', 'a+rX', this.directory]);
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** A directory of that user, which all others may pass through. */
  directoryOf(uid: number): string {
    const path = mkdtempSync(join(this.directory, `of-${uid}-`));
    chmodSync(path, 0o755);
    chownSync(path, uid, uid);
    mkdirSync(join(path, 'data'), { mode: 0o700 });
    chownSync(join(path, 'data'), uid, uid);
    return path;
  }

  /** Runs the job as the user and returns what it said, by its lines. */
  async run(uid: number, job: Job): Promise<Array<Record<string, unknown>>> {
    const { child, printed } = this.spawn(uid, job);
    await once(child, 'close');
    return linesOf(printed);
  }

  /** Starts a job that serves until the test ends, and waits until it does or says why not. */
  async background(t: ExecutionContext, uid: number, job: Job): Promise<Printed> {
    const { child, printed } = this.spawn(uid, job);
    const ended = once(child, 'exit');
    t.teardown(async () => {
      child.kill();
      await ended;
    });
    await saying(child, printed, /"serving"|"refused"/);
    return printed;
  }

  private spawn(uid: number, job: Job) {
    const script = join(this.directory, 'dist-test/secrets/other-user.js');
    const options = { uid, gid: uid, cwd: '/', env: { PATH: process.env['PATH'] } };
    const child = spawn(process.execPath, [script, JSON.stringify(job)], { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
    return { child, printed: new Printed(child) };
  }
}

export function linesOf({ text }: Printed): Array<Record<string, unknown>> {
  const lines = text.split('\n').filter((line) => line !== '');
  return lines.map((line) => (line.startsWith('{') ? JSON.parse(line) : { said: line }));
}
