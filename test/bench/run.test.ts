import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { Row } from '../../dist/bench/rows.js';
import { Stage } from '../cli/session.js';

/** As the command prints them. */
interface Figures {
  at: string;
  daemon: string | null;
  machine: Record<string, unknown>;
  versions: Record<string, string>;
  settings: Record<string, unknown>;
  rows: Array<
    Pick<Row, 'mode' | 'operation' | 'by' | 'size' | 'connections' | 'keys' | 'blocks' | 'unsent' | 'verified' | 'rate'> & Printed
  >;
}

interface Printed {
  in_flight: number | null;
  per_second: { median: number; low: number; high: number };
  latency: Record<'samples' | 'p50_ns' | 'p90_ns' | 'p99_ns' | 'p999_ns' | 'max_ns', number> | null;
  send_delay: { samples: number } | null;
  cpu_ns: number | null;
  server_cpu_ns: number | null;
  against_baseline: { ratio: number; low: number; high: number } | null;
}

const SHORT = '--seconds 0.05 --warm-up 0.02 --repeats 2';

/** A stage whose temporary files are its own, so that what is left of them is seen. */
async function stageOf(t: ExecutionContext): Promise<{ stage: Stage; temporary: string }> {
  const stage = await Stage.make();
  t.teardown(() => stage.clear());
  const temporary = join(stage.dir, 't');
  mkdirSync(temporary);
  stage.env['TMPDIR'] = temporary;
  return { stage, temporary };
}

async function figuresOf(t: ExecutionContext, stage: Stage, command: string): Promise<Figures> {
  const { exit, stdout, stderr } = await stage.run(`progressdb-kms bench --json ${SHORT} ${command}`);
  t.is(stderr, '');
  t.is(exit, 0);
  checkSecretless(t, stdout);
  const figures = JSON.parse(stdout) as Figures;
  for (const row of figures.rows) checkRow(t, row);
  return figures;
}

/** Keys in hex, and keys and messages in base64: nothing that is printed on purpose looks like them. */
const SECRET = /[0-9a-f]{32}|[A-Za-z0-9+/]{43}/;

function checkSecretless(t: ExecutionContext, text: string): void {
  t.notRegex(text, SECRET);
}

function checkRow(t: ExecutionContext, row: Figures['rows'][number]): void {
  const { low, median, high } = row.per_second;
  t.true(low > 0 && low <= median && median <= high, JSON.stringify(row));
  if (row.operation === 'rotate') {
    t.is(row.latency, null);
    return;
  }
  const { samples, p50_ns, p90_ns, p99_ns, p999_ns, max_ns } = row.latency!;
  t.true(samples > 0 && p50_ns > 0);
  t.true(p50_ns <= p90_ns && p90_ns <= p99_ns && p99_ns <= p999_ns && p999_ns <= max_ns);
  t.true(row.cpu_ns! > 0);
  if (row.operation !== 'create') t.true(row.verified >= row.blocks, 'something of each block was opened and compared');
}

const named = ({ rows }: Figures) =>
  rows.map(({ operation, size, connections, in_flight, by }) => [operation, size, connections, in_flight, by].join(' '));

test('what would be a secret is seen in output', (t) => {
  t.regex('0123456789abcdef0123456789abcdef', SECRET);
  t.regex(Buffer.alloc(32, 7).toString('base64'), SECRET);
});

test.serial('embedded calls are measured beside node:crypto, and nothing is left', async (t) => {
  const { stage, temporary } = await stageOf(t);
  const figures = await figuresOf(
    t,
    stage,
    'embedded --size 64,1KiB --calls sync,into,promise --in-flight 4 --keys 3 --store files',
  );
  const calls = (operation: string) => [`${operation}Sync`, `${operation}Into`, `${operation}WithDek`, 'node:crypto'];
  const messages = ['encrypt', 'decrypt'].flatMap((operation) =>
    [64, 1024].flatMap((size) => calls(operation).map((by) => `${operation} ${size}   ${by}`)),
  );
  t.deepEqual(named(figures), [...messages, 'rotate    rotateKek', 'create   4 createDek']);
  const ours = figures.rows.filter(({ operation, by }) => /crypt/.test(operation) && by !== 'node:crypto');
  t.true(ours.every(({ against_baseline: ratio }) => ratio !== null && ratio.low <= ratio.ratio && ratio.ratio <= ratio.high));
  t.true(figures.rows.filter(({ by }) => by === 'node:crypto').every(({ against_baseline: ratio }) => ratio === null));
  t.deepEqual([...new Set(ours.map(({ keys }) => keys))], [3]);
  t.is(figures.rows.find(({ operation }) => operation === 'rotate')?.keys, 3);
  t.is(figures.versions.node, process.versions.node);
  t.like(figures.settings, { modes: ['embedded'], seconds: 0.05, repeats: 2, store: 'files' });
  t.deepEqual(readdirSync(temporary), []);
});

test.serial('a daemon is measured by both protocols beside node:http, and nothing is left', async (t) => {
  const { stage, temporary } = await stageOf(t);
  const figures = await figuresOf(t, stage, 'daemon --connections 2 --in-flight 1,40 --keys 3 --out figures.json');
  const shapes = ['2 1', '2 40'];
  const messages = ['encrypt', 'decrypt'].flatMap((operation) =>
    shapes.flatMap((shape) => ['binary', 'http', 'node:http'].map((by) => `${operation} 1024 ${shape} ${by}`)),
  );
  const creates = shapes.flatMap((shape) => ['binary', 'http'].map((by) => `create  ${shape} ${by}`));
  t.deepEqual(named(figures), [...messages, 'rotate    binary', ...creates]);
  t.true(figures.rows.every(({ unsent, rate }) => unsent === 0 && rate === null));
  if (process.platform === 'linux') {
    t.true(figures.rows.filter(({ operation }) => operation !== 'rotate').every(({ server_cpu_ns: ns }) => ns !== null));
  }
  t.deepEqual(JSON.parse(readFileSync(join(stage.work, 'figures.json'), 'utf8')), figures);
  t.deepEqual(readdirSync(temporary), []);
});

test.serial('at a fixed rate every request that is due is counted', async (t) => {
  const { stage } = await stageOf(t);
  const figures = await figuresOf(t, stage, '--rate 2000 --operations encrypt --no-baseline');
  t.deepEqual(named(figures), ['encrypt 1024 1 256 binary', 'encrypt 1024 1 256 http']);
  for (const { rate, latency, send_delay, unsent } of figures.rows) {
    t.is(rate, 2000);
    t.is(latency?.samples, 2 * 2000 * 0.05);
    t.is(send_delay?.samples, latency!.samples - unsent);
  }
});

test.serial('people get a table', async (t) => {
  const { stage } = await stageOf(t);
  const { stdout, stderr, exit } = await stage.run(
    `progressdb-kms bench ${SHORT} --size 1KiB --operations encrypt,rotate --in-flight 1`,
  );
  t.is(stderr, '');
  t.is(exit, 0);
  checkSecretless(t, stdout);
  t.regex(stdout, /^progressdb-kms \d.*\n.*\n.*2 blocks of 0.05 s/);
  t.regex(stdout, /\noperation +size +by +per second +p50 +p90 +p99 +p99\.9 +max +against node:crypto\n/);
  t.regex(stdout, /\nencrypt +1 KiB +encryptSync +[\d,.]+ +[\d.]+ [µm]s.* [\d.]+x \([\d.]+–[\d.]+\)\n/);
  t.regex(stdout, /\nencrypt +1 KiB +1 x 1 +binary +[\d,.]+ .*x \(/);
  t.regex(stdout, /\nrotate +1,000 keys +rotateKek +[\d,.]+\n/);
  t.regex(stdout, /in brackets the quartiles\n$/);
});

test.serial('in a daemon that runs already one key is made, used by both protocols and destroyed', async (t) => {
  const { stage } = await stageOf(t);
  t.is((await stage.run('progressdb-kms init --master-key-file master.key')).exit, 0);
  t.is(await stage.start('progressdb-kms serve --master-key-file master.key'), undefined);
  const figures = await figuresOf(t, stage, '--socket kms.sock --in-flight 2 --no-baseline');
  t.is(figures.daemon, join(stage.work, 'kms.sock'));
  t.deepEqual(
    named(figures),
    ['encrypt', 'decrypt'].flatMap((operation) => [`${operation} 1024 1 2 binary`, `${operation} 1024 1 2 http`]),
  );
  const { stdout } = await stage.run('progressdb-kms keys list --json');
  const { keys } = JSON.parse(stdout) as { keys: Array<{ state: string; thread_id: string }> };
  t.is(keys.length, 1);
  t.is(keys[0]?.state, 'destroyed');
  t.regex(keys[0]?.thread_id ?? '', /^progressdb-kms-bench\/\d{4}-/);
});

test.serial('a file for the figures is not left behind where there are none, and one that was there stays', async (t) => {
  const { stage } = await stageOf(t);
  t.is((await stage.run('echo kept > old; progressdb-kms bench --socket nowhere.sock --out new')).exit, 21);
  t.false(existsSync(join(stage.work, 'new')));
  t.is((await stage.run('progressdb-kms bench --socket nowhere.sock --out old')).exit, 21);
  t.is(readFileSync(join(stage.work, 'old'), 'utf8'), 'kept\n');
});

test.serial('a daemon that does not get through what is due is said not to keep up', async (t) => {
  const { stage } = await stageOf(t);
  const { stdout, exit } = await stage.run(
    `progressdb-kms bench ${SHORT} --rate 1000000 --in-flight 1 --operations encrypt --protocols http --no-baseline`,
  );
  t.is(exit, 0);
  t.regex(stdout, /; 1,000,000 requests a second are due\n/);
  t.regex(stdout, /\nencrypt +1 KiB +1 x 1 +http +cannot keep up: [\d,.]+ /);
  t.regex(stdout, /\ncannot keep up: not all that was due could be sent/);
});
