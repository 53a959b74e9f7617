import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { ExecutionContext } from 'ava';

export const MAIN = resolve('dist/cli/main.js');

export interface Place {
  directory: string;
  dataDir: string;
  masterKeyFile: string;
  socket: string;
  /** 32 hex digits that are no secret: part of all these paths, so that any process that uses them holds it. */
  marker: string;
}

/** A fresh directory with a master key in it. */
export function place(t: ExecutionContext): Place {
  const marker = randomBytes(16).toString('hex');
  const directory = mkdtempSync(join(tmpdir(), `kms-${marker}-`));
  chmodSync(directory, 0o700);
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const masterKeyFile = join(directory, 'master.key');
  writeFileSync(masterKeyFile, `${randomBytes(32).toString('hex')}\n`, { mode: 0o600 });
  return { directory, dataDir: join(directory, 'data'), masterKeyFile, socket: join(directory, 'k'), marker };
}

/** The bytes of a key turned over, for a process that is to have it and must not have been told it in any form looked for. */
export function turnedOver(key: Buffer): number[] {
  return [...key].map((byte) => 255 - byte);
}

/** Puts raw data keys into the store of a place, in a process of its own. Returns their ids, in order. */
export function imported({ dataDir, masterKeyFile }: Place, raw: readonly Buffer[]): string[] {
  const script = resolve('dist-test/secrets/import-keys.js');
  const input = JSON.stringify({ dataDir, masterKeyFile, keys: raw.map((key) => key.toString('hex')) });
  return JSON.parse(execFileSync(process.execPath, [script], { input, encoding: 'utf8' })) as string[];
}

/** Everything a child process printed. */
export class Printed {
  readonly chunks: Buffer[] = [];

  constructor(child: Pick<ChildProcess, 'stderr'> & Partial<Pick<ChildProcess, 'stdout'>>) {
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk: Buffer) => this.chunks.push(chunk));
  }

  get text(): string {
    return Buffer.concat(this.chunks).toString('utf8');
  }
}

export interface Served {
  pid: number;
  printed: Printed;
  /** SIGTERM, and the exit code. */
  stop(): Promise<number | null>;
}

/** A daemon of the command line, ready to be connected to. */
export async function served(
  t: ExecutionContext,
  { dataDir, masterKeyFile, socket }: Place,
  ...flags: string[]
): Promise<Served> {
  const args = [MAIN, 'serve', '--socket', socket, '--data-dir', dataDir, '--master-key-file', masterKeyFile, ...flags];
  const child = spawn(process.execPath, args, { env: { PATH: process.env['PATH'] }, stdio: ['ignore', 'pipe', 'pipe'] });
  const printed = new Printed(child);
  const ended = once(child, 'exit');
  const stop = async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
    await ended;
    return child.exitCode;
  };
  t.teardown(stop);
  await saying(child, printed, /"event":"listening"/);
  return { pid: child.pid!, printed, stop };
}

/** Resolves when the child has printed that; rejects if it ends before. */
export async function saying(child: ChildProcess, printed: Printed, what: RegExp): Promise<void> {
  while (!what.test(printed.text)) {
    if (child.exitCode !== null) throw new Error(`the process ended with ${child.exitCode}: ${printed.text}`);
    await new Promise((wake) => setTimeout(wake, 10));
  }
}
