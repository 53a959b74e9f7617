import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { checkPeriod } from '../../dist/cli/certificates.js';
import { checkClock, checkDataDir, checkKeyFile, checkMemory, checkSocketFile, quoted } from '../../dist/cli/checks.js';
import { skipped } from '../secrets/scanner.js';

const MIB = 2 ** 20;
const uid = process.getuid?.() ?? 0;
const dir = mkdtempSync(join(tmpdir(), 'pkms-checks-'));
test.after.always(() => rmSync(dir, { recursive: true, force: true }));

const verdicts = (findings: Array<{ verdict: string }>) => findings.map(({ verdict }) => verdict);

test('a clock before the newest record is found, one after it is not', (t) => {
  const newest = '2026-01-31T12:00:00.000Z';
  t.is(checkClock(Date.parse(newest) - 1, newest).verdict, 'fail');
  t.is(checkClock(Date.parse(newest), newest).verdict, 'ok');
  t.is(checkClock(0, undefined).verdict, 'ok');
});

test('memory that is not locked fails, a limit below the arena is advice', (t) => {
  t.deepEqual(verdicts(checkMemory('none', 0, 4 * MIB)), ['fail', 'advice']);
  t.deepEqual(verdicts(checkMemory('mlock', MIB, 4 * MIB)), ['ok', 'advice']);
  t.deepEqual(verdicts(checkMemory('secretmem', Number.POSITIVE_INFINITY, 4 * MIB)), ['ok', 'ok']);
  t.is(checkMemory('none', 0, 4 * MIB)[0]?.mend, 'ulimit -l 4096');
});

test('a data directory is looked through to its records', (t) => {
  const dataDir = join(dir, 'data');
  mkdirSync(join(dataDir, 'kms-deks'), { recursive: true, mode: 0o700 });
  chmodSync(dataDir, 0o700);
  const record = join(dataDir, 'kms-deks', 'k_1.json');
  writeFileSync(record, '{}', { mode: 0o600 });
  t.deepEqual(verdicts(checkDataDir(dataDir, uid)), ['ok']);
  chmodSync(record, 0o640);
  const [finding] = checkDataDir(dataDir, uid);
  t.is(finding?.verdict, 'fail');
  t.regex(finding?.message ?? '', /k_1\.json \(0640\) is open/);
  t.is(finding?.mend, `chmod -R u=rwX,go= ${dataDir}`);
  t.true(checkDataDir(dataDir, uid + 1).some(({ mend }) => mend === `chown -R ${uid + 1} ${dataDir}`));
});

test("root is told to give a service's files back, not to take the directory", (t) => {
  if (skipped(t, uid === 0 ? undefined : 'needs root')) return;
  const dataDir = join(dir, 'of-a-service');
  mkdirSync(dataDir, { mode: 0o700 });
  const file = join(dataDir, 'keyring.json');
  writeFileSync(file, '{}', { mode: 0o600 });
  for (const path of [dataDir, file]) chownSync(path, 12_345, 12_345);
  t.deepEqual(verdicts(checkDataDir(dataDir, 0)), ['ok']);
  chownSync(file, 0, 0);
  t.like(checkDataDir(dataDir, 0)[0], { verdict: 'fail', mend: `chown -R 12345 ${dataDir}` });
});

test("root is told to look at a service's key file as the service, not to take it", (t) => {
  if (skipped(t, uid === 0 ? undefined : 'needs root')) return;
  const dataDir = join(dir, 'whose-key');
  mkdirSync(dataDir, { mode: 0o700 });
  const key = join(dir, 'whose.key');
  writeFileSync(key, '', { mode: 0o600 });
  chownSync(key, 12_345, 12_345);
  t.like(checkKeyFile(key, dataDir, 0, undefined)[0], { verdict: 'fail', mend: `chown 0 ${key}` });
  chownSync(dataDir, 12_345, 12_345);
  t.like(checkKeyFile(key, dataDir, 0, undefined)[0], { verdict: 'advice', mend: "sudo -u '#12345' progressdb-kms doctor" });
});

test('a key file for a group is allowed among credentials only, one in the data directory never', (t) => {
  const key = join(dir, 'master.key');
  writeFileSync(key, '');
  chmodSync(key, 0o640);
  t.deepEqual(verdicts(checkKeyFile(key, join(dir, 'elsewhere'), uid, dir)), ['ok']);
  t.deepEqual(verdicts(checkKeyFile(key, join(dir, 'elsewhere'), uid, undefined)), ['fail']);
  t.deepEqual(verdicts(checkKeyFile(key, dir, uid, dir)), ['fail']);
  const link = join(dir, 'link.key');
  symlinkSync(key, link);
  t.deepEqual(verdicts(checkKeyFile(link, join(dir, 'elsewhere'), uid, undefined)), ['fail'], 'the target is what counts');
});

test('something else under the name of the socket is found', (t) => {
  const path = join(dir, 'kms.sock');
  t.deepEqual(checkSocketFile(path), []);
  writeFileSync(path, '');
  t.is(checkSocketFile(path)[0]?.mend, `rm ${path}`);
});

test('a path in a command is read back by the shell as it is', (t) => {
  t.is(quoted('/var/lib/kms-1.x'), '/var/lib/kms-1.x');
  t.is(quoted("/it's here"), "'/it'\\''s here'");
});

test('a certificate is due two weeks before its end, one of a short life in its last third', (t) => {
  const DAY_MS = 86_400_000;
  const at = (days: number) => new Date(Date.now() + days * DAY_MS).toUTCString();
  const verdict = (from: number, until: number) => checkPeriod('certificate', 'our', at(from), at(until), 'mend').verdict;
  t.is(verdict(-300, 15), 'ok');
  t.is(verdict(-300, 13), 'advice');
  t.is(verdict(-1, 1), 'ok');
  t.is(verdict(-3, 1), 'advice');
  t.is(verdict(-3, -1), 'advice');
});
