import { DEFAULT_ARENA_BYTES } from '../limits.js';
import type { DaemonAddress } from './address.js';
import { checkDaemonCertificate, checkOwnCertificate } from './certificates.js';
import { advice, checkProtection, type Finding, fail, ok, quoted } from './checks.js';
import { attempt, checkRotation, checkSealed, checkStore, type RotationState } from './checks-daemon.js';
import { failureOf } from './failure.js';
import { wireNames } from './output.js';
import { type DaemonAccess, openDaemon } from './provider.js';
import type { Settings } from './settings.js';

/** What can be asked of a daemon over TCP, which may run anywhere: only what it says itself, and what it is known by. */
export async function checkElsewhere(address: DaemonAddress, settings: Settings, findings: Finding[]): Promise<void> {
  const { tls } = address;
  const { caller } = settings;
  if (tls !== undefined && caller.certFile !== undefined) {
    const { certFile } = caller;
    await attempt(
      'own-certificate',
      findings,
      async () => findings.push(checkOwnCertificate(certFile)),
      `ls -l ${quoted(certFile.path)}`,
    );
  }
  let daemon: DaemonAccess;
  try {
    daemon = await openDaemon(settings);
    findings.push(ok('endpoint', `a daemon answers ${address.where}`));
  } catch (error) {
    const { message, hint } = failureOf(error);
    findings.push(fail('endpoint', message, hint ?? 'progressdb-kms status    # on the machine of the daemon'));
    return;
  }
  try {
    await checkAnswers(daemon, findings);
  } finally {
    await daemon.kms.close();
  }
  if (tls !== undefined) {
    const look = async () => findings.push(await checkDaemonCertificate(tls, caller));
    await attempt('certificate', findings, look, 'progressdb-kms status');
  }
  const rest = 'its files, key file and clock, and memory limits, swap and core files of its machine: not looked at from here';
  findings.push(advice('machine', rest, 'progressdb-kms doctor    # on the machine of the daemon'));
}

async function checkAnswers({ kms }: DaemonAccess, findings: Finding[]): Promise<void> {
  const ask = async () => wireNames(await kms.status());
  const status = await attempt('daemon', findings, ask, 'progressdb-kms doctor --token-file FILE    # of an auditor');
  if (status === undefined) return;
  findings.push(checkProtection(String(status['protection']), DEFAULT_ARENA_BYTES));
  findings.push(checkSealed(status['status'] === 'sealed'));
  findings.push(...checkStore(status), ...checkRotation(status['rotation'] as RotationState, status['pending_slots']));
}
