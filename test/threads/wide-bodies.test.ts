import { spawnSync } from 'node:child_process';
import test from 'ava';

test('a body of millions of values that no path covers takes no memory for each of them', (t) => {
  const policy = new URL('../../dist/threads/field-policy.js', import.meta.url);
  const code = `
    import { FieldPolicy } from ${JSON.stringify(policy.href)};
    process.exit(new FieldPolicy(['body.*.x']).select(Array(4_000_000).fill(1)).length);`;
  const { status, signal } = spawnSync(process.execPath, ['--max-old-space-size=300', '--input-type=module', '-e', code]);
  t.deepEqual({ status, signal }, { status: 0, signal: null });
});
