import { statSync } from 'node:fs';
import { join } from 'node:path';
import { KmsError } from '../errors.js';
import { advice, type Finding, fail, ok, quoted } from './checks.js';
import { failureOf, isSystemError } from './failure.js';

/** What a daemon says of itself, named as docs/PROTOCOL.md names it. */
export type Status = Record<string, unknown>;

/** What one check throws is a finding of its own; not being allowed to look is no fault of what was to be looked at. */
export async function attempt<T>(
  check: string,
  findings: Finding[],
  look: () => Promise<T>,
  mend: string,
): Promise<T | undefined> {
  try {
    return await look();
  } catch (error) {
    const { message } = failureOf(error);
    findings.push((isRefusal(error) ? advice : fail)(check, `cannot be looked at: ${message}`, mend));
    return undefined;
  }
}

function isRefusal(error: unknown): boolean {
  if (error instanceof KmsError) return error.code === 'PERMISSION_DENIED';
  return isSystemError(error) && (error.code === 'EACCES' || error.code === 'EPERM');
}

export function checkSealed(isSealed: boolean): Finding {
  if (isSealed) return fail('key', 'the daemon is sealed', 'progressdb-kms unseal');
  return ok('key', 'the master key opens the keyring');
}

export function checkStore(status: Status): Finding[] {
  const found: Finding[] = [];
  if (typeof status['store_fault'] === 'string') {
    found.push(fail('store', `writes are refused: ${status['store_fault']}`, 'df -h; then restart the daemon'));
  }
  if (typeof status['audit_fault'] === 'string') {
    found.push(fail('audit', `nothing can be written: ${status['audit_fault']}`, 'df -h; then restart the daemon'));
  }
  const damaged = status['damaged_records'] as Array<{ key_id: string; reason: string }>;
  for (const { key_id, reason } of damaged) found.push(damagedRecord(key_id, reason, String(status['data_dir'])));
  if (damaged.length > 0) return found;
  const message = 'none found damaged so far; a running daemon reads a record when it is used';
  return [...found, advice('records', message, 'stop the daemon and run `progressdb-kms doctor` to read all')];
}

export function damagedRecord(keyId: string, reason: string, dataDir: string): Finding {
  // A file of one record can be put back by itself.
  const isFile = statSync(join(dataDir, 'kms-deks', `${keyId}.json`), { throwIfNoEntry: false }) !== undefined;
  const mend = isFile
    ? `cp BACKUP/kms-deks/${keyId}.json ${quoted(join(dataDir, 'kms-deks'))}`
    : `progressdb-kms restore FILE --data-dir ${quoted(dataDir)} --force`;
  return fail('records', `${keyId}: ${reason}`, mend);
}

/** As much of a rotation as the status map has. */
export interface RotationState {
  state: string;
  due: string | null;
}

/** Nothing is said where a daemon is sealed, or too old to tell. */
export function checkRotation(rotation: RotationState | null | undefined, pendingSlots: unknown): Finding[] {
  if (rotation === null || rotation === undefined) return [];
  const found = [rotationFinding(rotation)];
  if (typeof pendingSlots === 'number' && pendingSlots > 0) {
    const keys = pendingSlots === 1 ? '1 key was' : `${pendingSlots} keys were`;
    found.push(advice('slots', `${keys} added that no start has used`, 'progressdb-kms slots list'));
  }
  return found;
}

function rotationFinding({ state, due }: RotationState): Finding {
  if (state === 'blocked') {
    return fail('rotation', 'records that cannot be read hold the rotation up', 'progressdb-kms rotation-status');
  }
  if (state === 'failed')
    return fail('rotation', 'the rotation stopped', 'progressdb-kms rotation-status; then restart the daemon');
  if (state === 'running') return ok('rotation', 'under way');
  if (due !== null) return advice('rotation', `due: ${due}`, 'progressdb-kms rotate-kek');
  return ok('rotation', 'none is due');
}
