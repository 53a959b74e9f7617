import { spawn } from 'node:child_process';
import { resolve } from 'node:path';
import type { Place } from '../provider/subjects.js';

const MAIN = resolve('dist/cli/main.js');

export interface Ran {
  exit: number | null;
  stdout: string;
  stderr: string;
}

/** The command line on a place, with nothing of this environment; `stdout` closed at once if nobody is to read it. */
export async function cli(place: Place, args: readonly string[], input = '', reads = true): Promise<Ran> {
  const env = { PATH: process.env['PATH'], PROGRESSDB_KMS_SOCKET: `${place.directory}/kms.sock` };
  const child = spawn(process.execPath, [MAIN, ...args], { env, cwd: place.directory });
  const said = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) child[name].on('data', (chunk) => (said[name] += String(chunk)));
  if (!reads) child.stdout.destroy();
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  const exit = await new Promise<number | null>((done) => child.once('close', done));
  return { exit, ...said };
}

export function on({ dataDir, masterKeyFile }: Place): string[] {
  return ['--data-dir', dataDir, '--master-key-file', masterKeyFile];
}
