import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { appendFileSync, chmodSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { ERROR_TABLE } from '../../dist/errors.js';
import { Ground } from './verified.js';
import { newPair, secretOf, typicalLog, WrittenLog } from './written.js';

const MAIN = resolve('dist/cli/main.js');
const NOT_GENUINE = ERROR_TABLE.AUTHENTICATION_FAILED.exit;

interface Ran {
  exit: number;
  stdout: string;
  stderr: string;
}

function audit(...args: string[]): Promise<Ran> {
  return new Promise((done) => {
    const child = execFile(process.execPath, [MAIN, 'audit', ...args], (_, stdout, stderr) => {
      done({ exit: child.exitCode ?? -1, stdout, stderr });
    });
  });
}

function groundOf(t: ExecutionContext): Ground {
  const ground = new Ground();
  t.teardown(() => ground.clear());
  return ground;
}

const older = (seq: number) => `kms-audit-${String(seq).padStart(16, '0')}.log`;

test('a log is verified with the key that export-key printed, by either verifier, and a changed one is not', async (t) => {
  const ground = groundOf(t);
  const auditor = newPair('x25519');
  const log = typicalLog(90, auditor.publicKey);
  ground.file(older(1), log.bytes(0, 40));
  ground.file('kms-audit.log', log.bytes(40));
  const exported = await audit('export-key', ground.dir);
  t.is(exported.stdout, `${log.first.publicKey}\n`);
  t.regex(exported.stderr, /keep it where who can write the log cannot change it/);
  const key = ground.file('audit.pub', exported.stdout);
  const secret = ground.file('auditor.key', `${secretOf(auditor).toString('hex')}\n`);
  const anchor = await audit('anchor', ground.dir);
  t.is(anchor.stdout, `${log.lines.at(-1)}\n`);
  const anchors = ground.file('anchors', `${log.lines[2]}\n${anchor.stdout}`);

  const all = ['verify', ground.dir, '--key', key, '--auditor-key', secret, '--anchor', anchors];
  const right = await audit(...all);
  t.is(right.exit, 0, right.stderr);
  t.regex(right.stdout, /audit log: +ok, 90 lines\n(.*\n)+HMACs: +90 checked; 0 are(.*\n)+anchors: +2 found/);
  const independent = await audit(...all, '--independent', '--json');
  t.is(independent.exit, 0, independent.stderr);
  t.like(JSON.parse(independent.stdout), { ok: true, lines: 90, sigs_checked: 90, fault: null });

  const text = readFileSync(join(ground.dir, 'kms-audit.log'), 'latin1');
  writeFileSync(join(ground.dir, 'kms-audit.log'), text.replace('"outcome":"ok"', '"outcome":"ko"'), 'latin1');
  const wrong = await audit('verify', '--json', ground.dir, '--key', log.first.publicKey);
  t.is(wrong.exit, NOT_GENUINE);
  t.like(JSON.parse(wrong.stdout), {
    ok: false,
    fault: { file: 'kms-audit.log', line: 1, seq: 41, what: '`outcome` breaks its rule' },
  });
  const said = await audit('verify', ground.dir, '--key', log.first.publicKey);
  t.is(said.exit, NOT_GENUINE);
  t.regex(said.stdout, /NOT ok\nwrong: +kms-audit\.log, line 1, seq 41\n/);
  t.is((await audit('verify', ground.dir, '--independent', '--key', log.first.publicKey)).exit, NOT_GENUINE);
});

test('a log that was cut is right without the anchor, and not with it', async (t) => {
  const ground = groundOf(t);
  const log = typicalLog(60);
  const whole = ground.file('whole.log', log.bytes());
  const anchors = ground.file('anchors', (await audit('anchor', whole)).stdout);
  const last = log.lines.findLastIndex((line, index) => index < 59 && String(line).includes('"ed25519"'));
  const cut = ground.file('cut.log', log.bytes(0, last + 1));
  t.is((await audit('verify', cut, '--key', log.first.publicKey)).exit, 0);
  for (const verifier of [[], ['--independent']]) {
    const found = await audit('verify', cut, '--key', log.first.publicKey, '--anchor', anchors, ...verifier);
    t.is(found.exit, NOT_GENUINE);
    t.regex(found.stdout, /line 60 was anchored/);
  }
});

test('what is not a key, an anchor or a log is refused in one line', async (t) => {
  const ground = groundOf(t);
  const log = typicalLog(20);
  const path = ground.file('kms-audit.log', log.bytes());
  const key = log.first.publicKey;
  const refused = async (exit: number, says: RegExp, ...args: string[]) => {
    const ran = await audit(...args);
    t.is(ran.exit, exit, ran.stderr);
    t.regex(ran.stderr, says);
    t.is(ran.stdout, '');
  };
  await refused(2, /'--key <key>' not specified/, 'verify', path);
  await refused(2, /holds no public key/, 'verify', path, '--key', ground.file('no.pub', 'AAAA'));
  await refused(2, /cannot be read: ENOENT/, 'verify', path, '--key', `${path}.pub`);
  await refused(1, /cannot read .*none\.log: no such file/, 'verify', `${path}none.log`, '--key', key);
  await refused(2, /no line of an audit log/, 'verify', path, '--key', key, '--anchor', ground.file('bad', 'x\n'));
  await refused(2, /no checkpoint/, 'verify', path, '--key', key, '--anchor', ground.file('start', `${log.lines[0]}\n`));
  await refused(2, /holds no anchor/, 'verify', path, '--key', key, '--anchor', ground.file('empty', '\n'));
  await refused(2, /does not hold 64 hex digits/, 'verify', path, '--key', key, '--auditor-key', ground.file('short', 'ab'));
  const open = ground.file('open', '00'.repeat(32));
  chmodSync(open, 0o644);
  await refused(13, /chmod o-rwx/, 'verify', path, '--key', key, '--auditor-key', open);
  await refused(1, /no such file/, 'tail', join(ground.dir, 'nothing'));
  await refused(2, /holds no checkpoint/, 'anchor', ground.file('bare.log', log.bytes(0, 1)));
  await refused(2, /does not begin with the first start/, 'export-key', ground.file('later.log', log.bytes(3)));
});

test('a rollback is named with its line and fails, unless it is accepted', async (t) => {
  const ground = groundOf(t);
  const log = new WrittenLog();
  log.generation = 5;
  log.start();
  log.generation = 3;
  log.start();
  const path = ground.file('kms-audit.log', log.bytes());
  const found = await audit('verify', path, '--key', log.first.publicKey);
  t.is(found.exit, NOT_GENUINE);
  t.regex(found.stdout, /rollback: +kms-audit\.log, line 4, seq 4: generation 5, then 3/);
  t.is((await audit('verify', path, '--key', log.first.publicKey, '--accept-rollback', '4')).exit, 0);
});

test('an auditor’s key is made once, for its owner alone, and opens what is sealed to it', async (t) => {
  const ground = groundOf(t);
  const file = join(ground.dir, 'auditor.key');
  const made = await audit('new-auditor-key', file);
  t.is(made.exit, 0);
  t.is(statSync(file).mode & 0o777, 0o600);
  t.regex(readFileSync(file, 'utf8'), /^[0-9a-f]{64}\n$/);
  const before = readFileSync(file);
  const again = await audit('new-auditor-key', file);
  t.is(again.exit, 1);
  t.regex(again.stderr, /file already exists/);
  t.deepEqual(readFileSync(file), before);
  const log = typicalLog(20, made.stdout.trim());
  const path = ground.file('kms-audit.log', log.bytes());
  const ran = await audit('verify', path, '--json', '--key', log.first.publicKey, '--auditor-key', file);
  t.like(JSON.parse(ran.stdout), { ok: true, sigs_checked: 20, sigs_unchecked: 0 });
});

test('tail shows the last events, of earlier files too, and moves nobody’s cursor', async (t) => {
  const ground = groundOf(t);
  const log = new WrittenLog();
  log.start();
  log.write({ type: 'denied', actor: 'anonymous', outcome: 'UNAUTHENTICATED', own: { why: 'a\u001b[2Jb\u009b', n: 1 } });
  log.write({ type: 'create_dek', key_id: 'k_1', thread_id: 'chat/1' });
  ground.file(older(1), log.bytes(0, 4));
  ground.file('kms-audit.log', Buffer.concat([log.bytes(4), Buffer.from('{"event"')]));
  const ran = await audit('tail', ground.dir, '-n', '2');
  t.deepEqual(ran.stdout.split('\n'), [
    '2026-01-31T12:00:00.003Z  4  denied  anonymous  UNAUTHENTICATED  why="a\\u001b[2Jb\\u009b"  n=1',
    '2026-01-31T12:00:00.004Z  5  create_dek  uid:1000  ok  k_1  chat/1  generation=1',
    '',
  ]);
  t.is((await audit('tail', ground.dir)).stdout.split('\n').length, 6);
  t.is((await audit('tail', ground.dir, '--json', '-n', '1')).stdout, `${log.lines[4]}\n`);
});

test('tail follows the log into the files that come, and no line is shown twice or left out', async (t) => {
  t.timeout(200_000);
  const ground = groundOf(t);
  const log = typicalLog(60);
  const current = ground.file('kms-audit.log', log.bytes(0, 10));
  const child = spawn(process.execPath, [MAIN, 'audit', 'tail', ground.dir, '--json', '-f', '-n', '3']);
  t.teardown(() => child.kill());
  const seen = linesFrom(child);
  await seen.until(3);
  const write = (from: number, to: number) => appendFileSync(current, log.bytes(from, to));
  write(10, 20);
  renameSync(current, join(ground.dir, older(1)));
  write(20, 25);
  renameSync(current, join(ground.dir, older(21)));
  write(25, 30);
  await seen.until(23);
  const half = (log.lines[30] as Buffer).subarray(0, 50);
  appendFileSync(current, half);
  appendFileSync(current, log.bytes(30, 60).subarray(half.length));
  renameSync(current, join(ground.dir, older(26)));
  ground.file('kms-audit.log', '');
  const lines = await seen.until(53);
  t.deepEqual(lines, log.lines.slice(7).map(String));
});

function linesFrom(child: ChildProcess): { until(count: number): Promise<string[]> } {
  let text = '';
  child.stdout?.on('data', (data) => {
    text += String(data);
  });
  const lines = () => text.split('\n').slice(0, -1);
  return {
    async until(count) {
      while (lines().length < count && child.exitCode === null) await new Promise((wake) => setTimeout(wake, 20));
      return lines();
    },
  };
}
