import { execFile } from 'node:child_process';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import type { ExecutionContext } from 'ava';

const run = promisify(execFile);

/** The code block after a marker of a document. */
export async function block(document: string, marker: string): Promise<string> {
  const text = await readFile(document, 'utf8');
  const at = text.indexOf(marker);
  const [, code] = /```(?:js|sh)\n([\s\S]*?)```/.exec(text.slice(at)) ?? [];
  if (at < 0 || code === undefined) throw new Error(`${document} has no block after ${marker}`);
  return code;
}

/** Runs a script where the package's own name resolves to this checkout. */
export async function runScript(t: ExecutionContext, name: string, code: string, cwd: string): Promise<string> {
  const folder = resolve('dist-test', 'documented');
  await mkdir(folder, { recursive: true });
  const path = join(folder, `${name}.mjs`);
  await writeFile(path, code);
  t.teardown(() => rm(path, { force: true }));
  return (await run(process.execPath, [path], { cwd })).stdout;
}
