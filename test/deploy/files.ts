import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { ExecutionContext } from 'ava';
import { parseAllDocuments } from 'yaml';
import { textOf } from '../house/sources.js';

/** Whatever stands in a file of somebody else's format; tests look for what they name and fail where it is not. */
// biome-ignore lint/suspicious/noExplicitAny: its schema is not ours
export type Data = any;

const MAIN = resolve('dist/cli/main.js');

export function documentsOf(path: string): Data[] {
  return parseAllDocuments(textOf(path), { strict: true }).map((document) => {
    if (document.errors.length > 0) throw document.errors[0];
    return document.toJS();
  });
}

/** A group that there is on every machine that the tests run on. */
export function someGroup(): string {
  return readFileSync('/etc/group', 'utf8').split(':', 1)[0]!;
}

/** Lets the daemon look at a command line of a deployment, with that one's environment and nothing else. */
export function checkServes(t: ExecutionContext, args: readonly string[], env: Record<string, string>): void {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args, '--check-config'], {
    encoding: 'utf8',
    env: { PATH: process.env['PATH'], ...env },
  });
  t.deepEqual({ status, stdout, stderr }, { status: 0, stdout: 'ok\n', stderr: '' }, args.join(' '));
}

/** Every word of the command line and option that a deployment uses is in the help of the command. */
export function checkOptions(t: ExecutionContext, [command, ...args]: readonly string[]): void {
  const help = spawnSync(process.execPath, [MAIN, command!, '--help'], { encoding: 'utf8' });
  t.is(help.status, 0, command!);
  for (const option of args.filter((arg) => arg.startsWith('--'))) {
    t.regex(help.stdout, new RegExp(`${option.split('=', 1)[0]}[ ,\n]`), `${command} ${option}`);
  }
}
