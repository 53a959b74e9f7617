import { execFile } from 'node:child_process';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { Stage } from './session.js';

const run = promisify(execFile);
const readme = await readFile('README.md', 'utf8');

/** The code block after a marker. */
function block(marker: string): string {
  const at = readme.indexOf(marker);
  const [, code] = /```(?:js|sh)\n([\s\S]*?)```/.exec(readme.slice(at)) ?? [];
  if (at < 0 || code === undefined) throw new Error(`README.md has no block after ${marker}`);
  return code;
}

/** Runs a script where the package's own name resolves to this checkout. */
async function runScript(t: ExecutionContext, name: string, code: string, cwd: string): Promise<string> {
  const folder = resolve('dist-test', 'readme');
  await mkdir(folder, { recursive: true });
  const path = join(folder, `${name}.mjs`);
  await writeFile(path, code);
  t.teardown(() => rm(path, { force: true }));
  return (await run(process.execPath, [path], { cwd })).stdout;
}

async function stageWithDaemon(t: ExecutionContext): Promise<Stage> {
  const stage = await Stage.make();
  t.teardown(() => stage.clear());
  t.is(await stage.start('progressdb-kms serve --dev'), undefined);
  return stage;
}

test.serial('the session on the first screen of the README works', async (t) => {
  const stage = await stageWithDaemon(t);
  const ran = await stage.run(block('in a second terminal').replaceAll('npx --no progressdb-kms', 'progressdb-kms'));
  t.is(ran.stderr, '');
  t.is(ran.stdout, 'hello\n');
  t.is(ran.exit, 0);
});

test.serial('the example of the README works through the daemon', async (t) => {
  const stage = await stageWithDaemon(t);
  const code = block('<!-- example: connect -->').replace('/tmp/progressdb-kms.sock', join(stage.work, 'kms.sock'));
  t.is(await runScript(t, 'connect', code, stage.work), 'hello\n');
});

test.serial('the example of the README works in process, with nothing changed but the opening', async (t) => {
  const stage = await Stage.make();
  t.teardown(() => stage.clear());
  t.is((await stage.run('progressdb-kms init --data-dir app-data --master-key-file app-master.key')).exit, 0);
  const opening = block('<!-- example: embed -->');
  const rest = block('<!-- example: connect -->').split('\n').slice(3).join('\n');
  t.false(rest.includes('import'));
  t.is(await runScript(t, 'embed', opening + rest, stage.work), 'hello\n');
});
