import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { block as blockOf, runScript } from './documented.js';
import { Stage } from './session.js';

const block = (marker: string) => blockOf('README.md', marker);

async function stageWithDaemon(t: ExecutionContext): Promise<Stage> {
  const stage = await Stage.make();
  t.teardown(() => stage.clear());
  t.is(await stage.start('progressdb-kms serve --dev'), undefined);
  return stage;
}

test.serial('the session on the first screen of the README works', async (t) => {
  const stage = await stageWithDaemon(t);
  const ran = await stage.run((await block('in a second terminal')).replaceAll('npx --no progressdb-kms', 'progressdb-kms'));
  t.is(ran.stderr, '');
  t.is(ran.stdout, 'hello\n');
  t.is(ran.exit, 0);
});

test.serial('the example of the README works through the daemon', async (t) => {
  const stage = await stageWithDaemon(t);
  const code = (await block('<!-- example: connect -->')).replace('/tmp/progressdb-kms.sock', join(stage.work, 'kms.sock'));
  t.is(await runScript(t, 'connect', code, stage.work), 'hello\n');
});

test.serial('the example of the README works in process, with nothing changed but the opening', async (t) => {
  const stage = await Stage.make();
  t.teardown(() => stage.clear());
  t.is((await stage.run('progressdb-kms init --data-dir app-data --master-key-file app-master.key')).exit, 0);
  const opening = await block('<!-- example: embed -->');
  const rest = (await block('<!-- example: connect -->')).split('\n').slice(3).join('\n');
  t.false(rest.includes('import'));
  t.is(await runScript(t, 'embed', opening + rest, stage.work), 'hello\n');
});
