import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { openLmdbStore } from '../../dist/store/lmdb.js';
import { Child } from '../crash/child.js';
import { withoutStrace } from '../crash/strace.js';
import { skipped } from '../secrets/scanner.js';
import { newDataDir } from './data-dir.js';
import { stepsOf } from './lmdb-steps.js';

const hindrance = process.platform === 'linux' ? withoutStrace() : 'not on Linux';

/** Strace counts the calls of each thread by themselves. */
const ONE_THREAD = { UV_THREADPOOL_SIZE: '1' };

interface Life {
  child: Child;
  trace: string;
  dataDir: string;
}

async function traced(t: ExecutionContext, life: string, count: number, more: readonly string[] = []): Promise<Life> {
  const dataDir = newDataDir(t);
  const output = join(newDataDir(t), 'trace');
  const calls = ['-e', 'trace=openat,pwrite64,fdatasync,write', '-e', 'signal=none', ...more];
  const child = new Child([resolve('dist-test/store/lmdb-child.js'), life, dataDir, 'x', String(count)], ONE_THREAD, [
    ...['strace', '-f', '-qq', '-o', output],
    ...calls,
  ]);
  await child.finished();
  return { child, trace: readFileSync(output, 'utf8'), dataDir };
}

test('a key is told after the pages of its transaction are synced, and then the one that names their root', async (t) => {
  if (skipped(t, hindrance)) return;
  const { child, trace } = await traced(t, 'attempts', 12);
  t.is(child.lines.length, 13);
  const steps = stepsOf(trace, 'keys.lmdb').map(({ step }) => step);
  t.regex(`${steps.join(' ')} `, /^(sync |root )*(sync root made ){13}$/);
});

test('a blocking replace is durable when it returns, at whatever point of an asynchronous write it comes', async (t) => {
  if (skipped(t, hindrance)) return;
  const { child, trace, dataDir } = await traced(t, 'blocking', 24);
  const steps = stepsOf(trace, 'keys.lmdb');
  const main = steps.find(({ step }) => step === 'asked')?.thread;
  const own = steps.filter(({ thread }) => thread === main).map(({ step }) => step);
  t.regex(`${own.join(' ')} `, /^(sync |root )*(asked sync root made ){24}$/);
  t.is(child.lines.length, 48);
  const store = await openLmdbStore({ dataDir });
  t.is((await store.readRecord('k_b'))?.version, 25);
  t.is((await store.listKeyIds(undefined, 100)).length, 25);
  await store.close();
});

for (const [call, which, when] of [
  ['fdatasync', 'a failed flush', 12],
  ['pwrite64', 'an I/O error', 30],
  ['pwrite64', 'an I/O error at the next write', 31],
] as const) {
  test(`${which} makes the store read-only, which it says, and nothing is lost that was told`, async (t) => {
    if (skipped(t, hindrance)) return;
    const { child, dataDir } = await traced(t, 'attempts', 30, ['-e', `inject=${call}:error=EIO:when=${when}`]);
    const refused = child.lines.filter((line) => line.startsWith('refused'));
    const made = child.lines.filter((line) => line.startsWith('made'));
    t.true(made.length > 1 && refused.length > 1, child.lines.join('\n'));
    t.deepEqual(child.lines, [...made, ...refused], 'nothing is made after it');
    for (const line of refused) t.regex(line, /^refused STORE_UNAVAILABLE read EIO .*read-only until it is opened again/);
    const store = await openLmdbStore({ dataDir });
    t.deepEqual((await store.listKeyIds(undefined, 100)).slice(0, made.length).length, made.length);
    for (const line of made) t.truthy(await store.readRecord(line.split(' ')[1] as string), line);
    await store.close();
  });

  test(`a disk that is full at ${call} ${when} refuses that write, and takes the next ones`, async (t) => {
    if (skipped(t, hindrance)) return;
    const { child, dataDir } = await traced(t, 'attempts', 30, ['-e', `inject=${call}:error=ENOSPC:when=${when}`]);
    const refused = child.lines.filter((line) => line.startsWith('refused'));
    t.is(refused.length, 1, child.lines.join('\n'));
    t.regex(refused[0] ?? '', /^refused STORE_UNAVAILABLE read no space left/);
    t.regex(child.lines.at(-1) ?? '', /^made k_n29 1$/);
    const store = await openLmdbStore({ dataDir });
    t.is((await store.listKeyIds(undefined, 100)).length, 30);
    t.is(store.fault(), null);
    await store.close();
  });
}
