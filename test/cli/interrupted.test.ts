import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import test from 'ava';
import { Stage } from './session.js';

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test.serial(`an encryption that ends by ${signal} leaves neither the output nor its temporary file`, async (t) => {
    const stage = await Stage.make();
    t.teardown(() => stage.clear());
    t.is(await stage.start('progressdb-kms serve --dev'), undefined);
    const options = { cwd: stage.work, env: stage.env, stdio: ['pipe', 'ignore', 'inherit'] as const };
    const child = spawn(`${stage.dir}/bin/progressdb-kms`, ['encrypt', '-o', 'out'], { ...options, stdio: [...options.stdio] });
    const temporary = () => readdirSync(stage.work).filter((name) => name.endsWith('.tmp'));
    child.stdin.on('error', () => {});
    child.stdin.write(randomBytes(1_000_000));
    while (temporary().length === 0 && child.exitCode === null) await new Promise((wake) => setTimeout(wake, 10));
    t.is(temporary().length, 1);
    child.kill(signal);
    const [code, by] = await once(child, 'exit');
    t.is(code, null);
    t.is(by, signal);
    t.deepEqual(readdirSync(stage.work), ['kms.sock']);
  });
}

test.serial('a reader that goes away is said, not thrown', async (t) => {
  const stage = await Stage.make();
  t.teardown(() => stage.clear());
  t.is(await stage.start('progressdb-kms serve --dev'), undefined);
  const { exit, stdout } = await stage.run(
    '{ head -c 30000000 /dev/zero | progressdb-kms encrypt 2>said; echo $? > code; } | head -c 10 > /dev/null; cat code said',
  );
  t.is(exit, 0);
  t.is(stdout, '1\nprogressdb-kms: cannot write standard output: broken pipe\nhint: the output is not complete: do not use it\n');
});
