import { readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import test from 'ava';
import { Child } from '../crash/child.js';
import { withoutStrace } from '../crash/strace.js';
import { stepsOf } from '../store/lmdb-steps.js';
import { newStorePath } from './lmdb-ground.js';

test('a commit is told after its pages are synced, and then the one that names their root', async (t) => {
  const missing = process.platform === 'linux' ? withoutStrace() : 'not on Linux';
  if (missing !== undefined) {
    t.log(`SKIPPED: ${missing}`);
    t.pass();
    return;
  }
  const path = newStorePath(t);
  const trace = join(dirname(path), 'trace');
  const strace = ['strace', '-f', '-qq', '-o', trace, '-e', 'trace=openat,pwrite64,fdatasync,write', '-e', 'signal=none'];
  const child = new Child([resolve('dist-test/threads/store-child.js'), 'load', path, '1', '12'], {}, strace);
  await child.finished();
  t.is(child.lines.at(-1), 'made 0 12');
  const steps = stepsOf(readFileSync(trace, 'utf8'), 'threads.mdb').map(({ step }) => step);
  t.regex(`${steps.join(' ')} `, /^(sync |root )*(sync root made ){12}$/);
});
