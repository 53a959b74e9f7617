import { existsSync, lstatSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { DEFAULT_ARENA_BYTES } from '../../limits.js';
import type { ArenaInfo } from '../../native.js';
import { awaitsStart } from '../../wire/messages.js';
import { daemonAddressOf } from '../address.js';
import {
  advice,
  checkClock,
  checkDataDir,
  checkKeyFile,
  checkMemory,
  checkSocketFile,
  checkStores,
  checkSystem,
  checkTokens,
  doctorAs,
  type Finding,
  fail,
  ok,
  quoted,
} from '../checks.js';
import {
  attempt,
  checkRotation,
  checkSealed,
  checkStore,
  damagedRecord,
  type RotationState,
  type Status,
} from '../checks-daemon.js';
import { EXIT_FAILED, failureOf } from '../failure.js';
import { type Output, wireNames } from '../output.js';
import { type Access, answers, type DaemonAccess, isOutranked, openDaemon, openOffline } from '../provider.js';
import type { Settings } from '../settings.js';
import { keysOf } from './keys.js';

/** Looks at everything and goes on after each finding; exits with 1 if one fails. */
export async function doctorCommand(settings: Settings, output: Output): Promise<number> {
  const uid = process.getuid?.() ?? 0;
  const address = daemonAddressOf(settings);
  const { socket } = address;
  const findings: Finding[] = [];
  if (socket === undefined && !isOutranked(address, settings)) {
    const { checkElsewhere } = await import('../checks-elsewhere.js');
    await checkElsewhere(address, settings, findings);
    return report(findings, output);
  }
  const reached = socket === undefined ? undefined : await reachDaemon(settings, socket, findings);
  try {
    const ask = async () => reached && wireNames(await reached.kms.status());
    const status = await attempt('daemon', findings, ask, `progressdb-kms serve --auditor-uids ${uid}`);
    const dataDir = reached === undefined ? settings.dataDir.value : status && String(status['data_dir'] ?? '');
    await checkFiles(settings, dataDir, uid, findings);
    if (reached === undefined) await checkOffline(settings, findings);
    else if (status === undefined) await checkGreeting(reached, findings);
    else await checkDaemon(reached, status, findings);
  } finally {
    await reached?.kms.close();
  }
  await attempt('system', findings, async () => findings.push(...checkSystem()), 'mount -t proc proc /proc');
  return report(findings, output);
}

/** `dataDir` undefined: not known to us; empty: there is none. */
async function checkFiles(settings: Settings, dataDir: string | undefined, uid: number, findings: Finding[]): Promise<void> {
  const mend = asOwner(settings);
  if (dataDir === '') {
    findings.push(advice('data-dir', 'the daemon keeps nothing: it runs with --dev', 'progressdb-kms serve'));
  } else if (dataDir !== undefined) {
    await attempt('data-dir', findings, async () => findings.push(...checkDataDir(dataDir, uid)), mend);
    await attempt('store', findings, async () => findings.push(...checkStores(dataDir)), mend);
    await attempt('tokens', findings, async () => findings.push(...checkTokens(dataDir, uid)), mend);
  }
  const { masterKeyFile } = settings;
  if (masterKeyFile === undefined) return;
  const look = async () => {
    findings.push(...checkKeyFile(masterKeyFile, dataDir || undefined, uid, process.env['CREDENTIALS_DIRECTORY']));
  };
  await attempt('key-file', findings, look, mend);
}

/** As the user of the daemon; as root, who may look at everything, where that is not to be seen. */
function asOwner(settings: Settings): string {
  for (const path of [daemonAddressOf(settings).socket ?? '', settings.dataDir.value]) {
    try {
      return doctorAs(lstatSync(path).uid);
    } catch {
      // It is not there, or we may not see it.
    }
  }
  return doctorAs(0);
}

async function reachDaemon(settings: Settings, socket: string, findings: Finding[]): Promise<DaemonAccess | undefined> {
  try {
    findings.push(...checkSocketFile(socket));
    if (!(await answers(socket))) {
      findings.push(advice('socket', `no daemon answers on ${socket}`, `progressdb-kms serve --socket ${quoted(socket)}`));
      return undefined;
    }
    // Refuses a daemon that runs as somebody else.
    const daemon = await openDaemon(settings);
    findings.push(ok('socket', `a daemon of ours answers on ${socket}`));
    return daemon;
  } catch (error) {
    const { code, message } = failureOf(error);
    // Somebody listens, and closes: the daemon does so to users that it does not know.
    const allowed = `progressdb-kms serve --allowed-uids ${process.getuid?.() ?? 0}`;
    findings.push(fail('socket', message, code === 'STORE_UNAVAILABLE' ? allowed : `ls -l ${quoted(socket)}`));
    return undefined;
  }
}

/** What a daemon tells everybody whom it admits. */
async function checkGreeting({ kms }: DaemonAccess, findings: Finding[]): Promise<void> {
  const look = async () => {
    const { protection, sealed } = await kms.hello();
    await checkKeys(protection, sealed, findings);
  };
  await attempt('memory', findings, look, 'progressdb-kms status');
}

async function checkKeys(protection: string, isSealed: boolean, findings: Finding[]): Promise<void> {
  const { memlockLimit } = await arena();
  findings.push(...checkMemory(protection, memlockLimit, DEFAULT_ARENA_BYTES));
  findings.push(checkSealed(isSealed));
}

async function checkDaemon({ kms }: DaemonAccess, status: Status, findings: Finding[]): Promise<void> {
  const isSealed = status['status'] === 'sealed';
  await attempt('memory', findings, () => checkKeys(String(status['protection']), isSealed, findings), 'npm run build:native');
  findings.push(...checkStore(status), ...checkRotation(status['rotation'] as RotationState, status['pending_slots']));
  if (!isSealed) await checkNewest(kms, findings);
}

async function checkNewest(kms: Access['kms'], findings: Finding[]): Promise<void> {
  const look = async () => findings.push(checkClock(Date.now(), await newestWrite(kms)));
  await attempt('clock', findings, look, 'progressdb-kms keys list');
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
  const look = async () =>
    settings.postgres !== undefined || statSync(join(dataDir, 'keyring.json'), { throwIfNoEntry: false }) !== undefined;
  const hasKeyring = await attempt('keyring', findings, look, asOwner(settings));
  if (hasKeyring === undefined) return;
  if (!hasKeyring) {
    const mend = `progressdb-kms init --data-dir ${quoted(dataDir)} --master-key-file FILE`;
    findings.push(fail('keyring', `${dataDir} holds no key store`, mend));
    return;
  }
  let access: Access & { kind: 'offline' };
  try {
    access = await openOffline(settings, { inspect: true });
  } catch (error) {
    const { message } = failureOf(error);
    const isOfService = findings.some(({ check, verdict }) => check === 'key-file' && verdict === 'advice');
    if (isOfService && process.getuid?.() === 0) findings.push(advice('key', message, asOwner(settings)));
    // Wide permissions name their own command in the message; what is left is another key than the store's.
    else findings.push(fail('key', message, 'progressdb-kms doctor --master-key-file FILE'));
    return;
  }
  try {
    findings.push(ok('key', 'the master key opens the keyring'));
    await attempt('records', findings, () => checkRecords(access, findings), `ls -l ${quoted(dataDir)}`);
    await attempt('rotation', findings, () => checkKek(access, findings), 'progressdb-kms rotation-status');
    await checkNewest(access.kms, findings);
  } finally {
    await access.kms.close();
  }
}

async function checkKek({ kms }: Access, findings: Finding[]): Promise<void> {
  const pending = (await kms.slots()).filter(awaitsStart);
  findings.push(...checkRotation(await kms.rotationStatus(), pending.length));
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
}

async function newestWrite(kms: Access['kms']): Promise<string | undefined> {
  let newest: string | undefined;
  for await (const { updatedAt } of keysOf(kms)) if (newest === undefined || updatedAt > newest) newest = updatedAt;
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
