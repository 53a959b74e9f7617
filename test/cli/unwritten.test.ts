import { existsSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { skipped } from '../secrets/scanner.js';
import { Stage } from './session.js';

const hindrance = existsSync('/dev/full') ? undefined : 'needs /dev/full';
const FULL = 'progressdb-kms: cannot write standard output: no space left on device\n';

async function stageWithStore(t: ExecutionContext): Promise<Stage> {
  const stage = await Stage.make();
  t.teardown(() => stage.clear());
  stage.env['PROGRESSDB_KMS_MASTER_KEY_FILE'] = 'master.key';
  t.is((await stage.run('progressdb-kms init')).exit, 0);
  return stage;
}

test.serial('a command whose output cannot be written says so and fails', async (t) => {
  if (skipped(t, hindrance)) return;
  const stage = await stageWithStore(t);
  const { stdout } = await stage.run('progressdb-kms create-dek');
  for (const command of ['create-dek', 'keys list', `keys show ${stdout.trim()}`, 'status', '--version', '--help']) {
    t.deepEqual(await stage.run(`progressdb-kms ${command} > /dev/full`), { exit: 1, stdout: '', stderr: FULL }, command);
  }
  for (const command of ['create-dek', 'keys list', 'status', 'doctor']) {
    const { exit, stderr } = await stage.run(`progressdb-kms ${command} --json > /dev/full`);
    t.is(exit, 1, command);
    t.is(JSON.parse(stderr).error.code, 'FILE', command);
  }
});

test.serial('a file that cannot be written to standard output is said once', async (t) => {
  if (skipped(t, hindrance)) return;
  const stage = await stageWithStore(t);
  const { exit, stderr } = await stage.run('echo hello | progressdb-kms encrypt > /dev/full');
  t.is(exit, 1);
  t.is(stderr, `${FULL}hint: the output is not complete: do not use it\n`);
});

test.serial('what a command found keeps its exit code when it cannot be written', async (t) => {
  if (skipped(t, hindrance)) return;
  const stage = await stageWithStore(t);
  t.is(await stage.start('progressdb-kms serve'), undefined);
  t.is((await stage.run('progressdb-kms seal')).exit, 0);
  t.deepEqual(await stage.run('progressdb-kms status > /dev/full'), { exit: 17, stdout: '', stderr: FULL });
});

test.serial('a reader that went away is no failure', async (t) => {
  const stage = await stageWithStore(t);
  for (const command of ['create-dek', 'keys list', 'status --json']) {
    const { stdout } = await stage.run(`{ sleep 0.2; progressdb-kms ${command} 2>said; echo $? > code; } | true; cat code said`);
    t.is(stdout, '0\n', command);
  }
});
