import { isAbsolute, resolve } from 'node:path';
import { createBackup } from '../../backup/create.js';
import {
  badRecords,
  checkSeal,
  type MasterSource,
  type OpenedBackup,
  openBackup,
  type Scanned,
  scanBackup,
} from '../../backup/verify.js';
import { KmsError } from '../../errors.js';
import { MAX_TIMER_MS } from '../../limits.js';
import type { BackupDescription, BackupOrder } from '../../provider.js';
import { Failure, failureOf, MASTER_KEY_HINT } from '../failure.js';
import { type KeyProgress, keyProgress } from '../key-progress.js';
import { columns, type Output, wireNames } from '../output.js';
import { type Access, openAccess } from '../provider.js';
import type { Settings } from '../settings.js';

export async function createBackupCommand(
  file: string,
  { skipDamaged }: { skipDamaged?: boolean },
  settings: Settings,
  output: Output,
): Promise<void> {
  if (file === '-') throw new Failure('USAGE', 'a backup is a file, not standard output', 'it is whole or not there at all');
  const access = await openAccess(settings, output);
  try {
    const made = await backUp(access, file, skipDamaged === true, output);
    output.result(wireNames(made), columns(rowsOf(made)));
    for (const keyId of made.leftOut) output.note(`${keyId} is not in it: its record is damaged`);
    output.note("it opens with this store's master keys only, and holds none: keep them apart from it");
  } finally {
    await access.kms.close();
  }
}

function backUp(access: Access, file: string, skipDamaged: boolean, output: Output): Promise<BackupDescription> {
  const order: BackupOrder = { path: resolve(file), ...(skipDamaged && { skipDamaged }) };
  if (access.kind === 'offline') return offline(access, order, output);
  if (access.address.socket === undefined && !isAbsolute(file)) {
    throw new Failure('USAGE', `the daemon ${access.address.where} writes to its own machine: name an absolute path there`);
  }
  return access.kms.backup(order, { deadlineMs: MAX_TIMER_MS });
}

async function offline({ kms, dataDir }: Access & { kind: 'offline' }, order: BackupOrder, output: Output) {
  const snapshot = kms.snapshot();
  let progress: KeyProgress | undefined;
  const actor = `uid:${process.getuid?.() ?? 0}`;
  try {
    const shown = keyProgress('backing up', await snapshot.count(), output.json);
    progress = shown;
    return await createBackup(snapshot, { ...order, dataDir, actor, onRecord: shown.one });
  } finally {
    progress?.stop();
    snapshot.release();
  }
}

function rowsOf(backup: BackupDescription): Array<[string, string]> {
  return [
    ['file', backup.path],
    ['bytes', String(backup.bytes)],
    ['store', backup.storeId],
    ['generation', String(backup.generation)],
    ['begun', backup.createdAt],
    ['by', backup.createdBy],
    ['keys', String(backup.records)],
    ['left out', String(backup.leftOut.length)],
  ];
}

/** Master keys are read from a file here: a backup outlives the daemon that it is of. */
export function masterOf({ masterKeyFile }: Settings): MasterSource | undefined {
  return masterKeyFile === undefined ? undefined : { kind: 'file', path: masterKeyFile, mayBeGroupReadable: false };
}

/** What is wrong with a file is the file's fault, and not that of the command line. */
export function asFileFailure(error: unknown): unknown {
  if (!(error instanceof KmsError)) return error;
  if (error.code === 'UNAUTHENTICATED') return failureOf(error).with(MASTER_KEY_HINT);
  if (error.code !== 'INVALID_ARGUMENT') return error;
  return new Failure('FILE', error.message.replace('invalid argument: ', ''));
}

export async function verifyBackupCommand(file: string, settings: Settings, output: Output): Promise<void> {
  try {
    const scanned = await scanBackup(resolve(file));
    const master = masterOf(settings);
    if (master !== undefined) await verifyWith(openBackup(scanned, master), output);
    else if (!scanned.isWhole) throw new Failure('FILE', `${scanned.path} is damaged: its checksum does not match`);
    report(scanned, master !== undefined, output);
  } catch (error) {
    throw asFileFailure(error);
  }
}

/** The records are looked at even where the whole is known to be bad: they may tell what it is. */
async function verifyWith(backup: OpenedBackup, output: Output): Promise<void> {
  const progress = keyProgress('verifying', backup.manifest.records, output.json);
  try {
    let bad = 0;
    for await (const { keyId, reason } of badRecords(backup, progress.one)) {
      bad += 1;
      output.note(`${keyId}: ${reason}`);
    }
    await checkSeal(backup);
    if (bad > 0) throw new Failure('FILE', `${backup.path}: ${bad} of ${backup.manifest.records} records are bad`);
  } finally {
    progress.stop();
    backup.vault.close();
  }
}

function report({ path, bytes, manifest, tokens, audit }: Scanned, isProven: boolean, output: Output): void {
  const description = { path, bytes, ...manifest };
  const more = { tokens: tokens !== undefined, audit_seq: audit?.seq ?? null, proven: isProven };
  const checked = isProven ? 'every byte is genuine, and every key opens' : 'the checksum only';
  output.result({ ...wireNames(description), ...more }, columns([...rowsOf(description), ['checked', checked]]));
  if (!isProven) output.note('whether it is genuine and opens, --master-key-file FILE would tell');
}
