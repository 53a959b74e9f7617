import { readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import test from 'ava';
import { Child } from '../crash/child.js';
import { withoutStrace } from '../crash/strace.js';
import { newStorePath } from './lmdb-ground.js';

/**
 * The steps of a process that have ended, in order: `sync` of pages, `root` for a write that is synced by itself, and `told`.
 * A call of which strace writes the end on a line of its own counts there.
 */
function steps(trace: string): string {
  const synced = new Set<string>();
  const pending = new Map<string, string>();
  let found = '';
  for (const line of trace.split('\n')) {
    const [, thread, text] = /^(\d+) +(.*)$/.exec(line) ?? [];
    if (thread === undefined || text === undefined) continue;
    if (text.endsWith('<unfinished ...>')) {
      pending.set(thread, text);
      continue;
    }
    const call = text.startsWith('<...') ? `${pending.get(thread)} ${text}` : text;
    const [, opened] = /^openat\(.*threads\.mdb", .*O_DSYNC.* = (\d+)$/.exec(call) ?? [];
    if (opened !== undefined) synced.add(opened);
    const [, written] = /^pwrite64\((\d+),/.exec(call) ?? [];
    if (/^fdatasync\(.* = 0$/.test(call)) found += 'sync ';
    else if (written !== undefined && synced.has(written)) found += 'root ';
    else if (/^write\(1, "made /.test(call)) found += 'told ';
  }
  return found;
}

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
  t.regex(steps(readFileSync(trace, 'utf8')), /^(sync |root )*(sync root told ){12}$/);
});
