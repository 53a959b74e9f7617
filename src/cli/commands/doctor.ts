import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { DEFAULT_ARENA_BYTES } from '../../limits.js';
import type { ArenaInfo } from '../../native.js';
import {
  advice,
  checkClock,
  checkDataDir,
  checkKeyFile,
  checkMemory,
  checkSocketFile,
  checkSystem,
  type Finding,
  fail,
  ok,
  quoted,
} from '../checks.js';
import { EXIT_FAILED, failureOf } from '../failure.js';
import { type Output, wireNames } from '../output.js';
import { type Access, answers, openDaemon, openOffline, socketPathOf } from '../provider.js';
import type { Settings } from '../settings.js';
import { keysOf } from './keys.js';

/** Looks at everything and goes on after each finding; exits with 1 if one fails. */
export async function doctorCommand(settings: Settings, output: Output): Promise<number> {
  const uid = process.getuid?.() ?? 0;
  const socket = socketPathOf(settings.address.value);
  const findings: Finding[] = [];
  const reached = await reachDaemon(settings, socket, findings);
  try {
    const dataDir = reached === undefined ? settings.dataDir.value : await servedDirectory(reached);
    if (dataDir === undefined)
      findings.push(advice('data-dir', 'the daemon keeps nothing: it runs with --dev', 'progressdb-kms serve'));
    else checkFiles(settings, dataDir, uid, findings);
    if (reached !== undefined) await checkDaemon(reached, findings);
    else await checkOffline(settings, findings);
  } finally {
    await reached?.kms.close();
  }
  findings.push(...checkSystem());
  return report(findings, output);
}

function checkFiles({ masterKeyFile }: Settings, dataDir: string, uid: number, findings: Finding[]): void {
  findings.push(...checkDataDir(dataDir, uid));
  if (masterKeyFile === undefined) return;
  findings.push(...checkKeyFile(masterKeyFile, dataDir, uid, process.env['CREDENTIALS_DIRECTORY']));
}

async function reachDaemon(
  settings: Settings,
  socket: string,
  findings: Finding[],
): Promise<(Access & { kind: 'daemon' }) | undefined> {
  findings.push(...checkSocketFile(socket));
  try {
    if (!(await answers(socket))) {
      findings.push(advice('socket', `no daemon answers on ${socket}`, `progressdb-kms serve --socket ${quoted(socket)}`));
      return undefined;
    }
    // Refuses a daemon that runs as somebody else.
    const daemon = await openDaemon(settings);
    findings.push(ok('socket', `a daemon of ours answers on ${socket}`));
    return daemon;
  } catch (error) {
    findings.push(fail('socket', failureOf(error).message, `ls -l ${quoted(socket)}`));
    return undefined;
  }
}

async function servedDirectory({ kms }: Access & { kind: 'daemon' }): Promise<string | undefined> {
  const { data_dir: served } = wireNames(await kms.status());
  return typeof served === 'string' && served !== '' ? served : undefined;
}

async function checkDaemon({ kms }: Access & { kind: 'daemon' }, findings: Finding[]): Promise<void> {
  const status = wireNames(await kms.status());
  const { memlockLimit } = await arena();
  findings.push(...checkMemory(String(status['protection']), memlockLimit, DEFAULT_ARENA_BYTES));
  if (status['status'] === 'sealed') findings.push(fail('key', 'the daemon is sealed', 'progressdb-kms unseal'));
  else findings.push(ok('key', 'the master key opens the keyring'));
  if (typeof status['store_fault'] === 'string') {
    findings.push(fail('store', `writes are refused: ${status['store_fault']}`, 'df -h; then restart the daemon'));
  }
  const damaged = status['damaged_records'] as Array<{ key_id: string; reason: string }>;
  for (const { key_id, reason } of damaged) findings.push(damagedRecord(key_id, reason, String(status['data_dir'])));
  if (damaged.length === 0) {
    const message = 'none found damaged so far; a running daemon reads a record when it is used';
    findings.push(advice('records', message, 'stop the daemon and run `progressdb-kms doctor` to read all'));
  }
  if (status['status'] !== 'sealed') findings.push(checkClock(Date.now(), await newestWrite(kms)));
}

/** Opens the store as a daemon would: what then fails would have failed it. */
async function checkOffline(settings: Settings, findings: Finding[]): Promise<void> {
  const dataDir = settings.dataDir.value;
  try {
    const { protection, memlockLimit } = await arena();
    findings.push(...checkMemory(protection, memlockLimit, DEFAULT_ARENA_BYTES));
  } catch (error) {
    findings.push(fail('memory', failureOf(error).message, 'npm run build:native'));
    return;
  }
  if (!existsSync(dataDir)) return;
  if (!existsSync(join(dataDir, 'keyring.json'))) {
    const mend = `progressdb-kms init --data-dir ${quoted(dataDir)} --master-key-file FILE`;
    findings.push(fail('keyring', `${dataDir} holds no key store`, mend));
    return;
  }
  let access: Access & { kind: 'offline' };
  try {
    access = await openOffline(settings);
  } catch (error) {
    // Wide permissions name their own command in the message; what is left is another key than the store's.
    findings.push(fail('key', failureOf(error).message, 'progressdb-kms doctor --master-key-file FILE'));
    return;
  }
  try {
    findings.push(ok('key', 'the master key opens the keyring'));
    await checkRecords(access, findings);
  } finally {
    await access.kms.close();
  }
}

async function checkRecords({ kms, dataDir }: Access & { kind: 'offline' }, findings: Finding[]): Promise<void> {
  let records = 0;
  let damaged = 0;
  for await (const { keyId, fault } of kms.verifyRecords()) {
    records += 1;
    if (fault === null) continue;
    damaged += 1;
    findings.push(damagedRecord(keyId, fault, dataDir));
  }
  if (damaged === 0) findings.push(ok('records', `${records} verified`));
  findings.push(checkClock(Date.now(), await newestWrite(kms)));
}

function damagedRecord(keyId: string, reason: string, dataDir: string): Finding {
  const folder = join(dataDir, 'kms-deks');
  return fail('records', `${keyId}: ${reason}`, `cp BACKUP/kms-deks/${keyId}.json ${quoted(folder)}`);
}

async function newestWrite(kms: Access['kms']): Promise<string | undefined> {
  let newest: string | undefined;
  for await (const { updatedAt } of keysOf(kms, undefined)) if (newest === undefined || updatedAt > newest) newest = updatedAt;
  return newest;
}

async function arena(): Promise<ArenaInfo> {
  const { binding } = await import('../../native.js');
  return binding.initialise(DEFAULT_ARENA_BYTES, 0);
}

function report(findings: Finding[], output: Output): number {
  const failed = findings.filter(({ verdict }) => verdict === 'fail').length;
  const text = findings.map(({ check, verdict, message, mend }) => {
    const line = `${verdict.padEnd(7)} ${check}: ${message}`;
    return mend === null ? line : `${line}\n        mend: ${mend}`;
  });
  output.result({ ok: failed === 0, findings }, text.join('\n'));
  return failed === 0 ? 0 : EXIT_FAILED;
}
