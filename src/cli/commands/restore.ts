import { resolve } from 'node:path';
import { type Restored, restoreBackup } from '../../backup/restore.js';
import { auditOf } from '../../create.js';
import type { StoreKind } from '../../store/key-store.js';
import { Failure } from '../failure.js';
import { type KeyProgress, keyProgress } from '../key-progress.js';
import { columns, keysText, type Output, wireNames } from '../output.js';
import type { Settings } from '../settings.js';
import { asFileFailure, masterOf } from './backup.js';

export interface RestoreFlags {
  force?: boolean;
  acceptRollback?: boolean;
  store?: StoreKind;
  /** Shares of a recovery key instead of a master key. */
  withShares?: boolean;
}

/** Keys that are named one by one. */
const NAMED = 5;

export async function restoreCommand(
  file: string,
  flags: RestoreFlags,
  settings: Settings,
  output: Output,
  master = masterOf(settings),
): Promise<void> {
  const { dataDir } = settings;
  if (master === undefined) {
    throw new Failure(
      'USAGE',
      'no master key file is given',
      'a restore proves the backup first: --master-key-file FILE, or --with-shares',
    );
  }
  let progress: KeyProgress | undefined;
  try {
    const restored = await restoreBackup({
      path: resolve(file),
      dataDir: dataDir.value,
      master,
      force: flags.force === true,
      acceptRollback: flags.acceptRollback === true,
      ...(flags.store && { store: flags.store }),
      actor: `uid:${process.getuid?.() ?? 0}`,
      // What is gone back on was accepted by then, or there is nothing.
      openAudit: (directory, vault, keyring) => auditOf(directory, { acceptRollback: true })({ vault, keyring }),
      onScanned: (records) => (progress = keyProgress('restoring', records, output.json)),
      onRecord: () => progress?.one(),
    });
    progress?.stop();
    report(restored, dataDir.value, output);
  } catch (error) {
    progress?.stop();
    throw asFileFailure(error);
  }
}

function report(restored: Restored, dataDir: string, output: Output): void {
  const rows: Array<[string, string]> = [
    ['data directory', dataDir],
    ['store', restored.storeId],
    ['as of', restored.createdAt],
    ['keys', String(restored.records)],
    ['generation', String(restored.generation)],
    ['set aside', restored.setAside ?? '-'],
  ];
  output.result({ data_dir: dataDir, ...wireNames(restored) }, columns(rows));
  for (const line of advice(restored)) output.note(line);
}

/** What an operator has to know, and would otherwise meet by surprise. */
function advice(restored: Restored): string[] {
  const { createdAt, setAside, keysMissing, leftOut, exhausted, hasTokens, auditLinesAfter, beginsAuditLog } = restored;
  const lines = [`keys and master keys are as of ${createdAt}: what was disabled, destroyed or removed since then is back`];
  lines.push('every use count was raised by 2^28, since it is not known what was encrypted since then');
  if (hasTokens) lines.push('access tokens that were revoked since then hold again: see `progressdb-kms token list`');
  if (keysMissing.length > 0) lines.push(`only what was set aside has ${keysText(keysMissing.length)}: ${named(keysMissing)}`);
  if (leftOut.length > 0) lines.push(`damaged when it was made, and missing: ${keysText(leftOut.length)}, ${named(leftOut)}`);
  if (exhausted > 0) lines.push(`at the end of their uses, so that they decrypt and encrypt no more: ${keysText(exhausted)}`);
  if (auditLinesAfter > 0) lines.push(`the audit log was kept: its last ${auditLinesAfter} lines tell of what is undone`);
  if (beginsAuditLog) lines.push('another audit log begins: `progressdb-kms audit export-key` prints the key to verify it with');
  if (setAside !== null) lines.push(`${setAside} is what was there before: remove it when nothing in it is missed`);
  return lines;
}

function named(keyIds: readonly string[]): string {
  const more = keyIds.length > NAMED ? ` and ${keyIds.length - NAMED} more` : '';
  return keyIds.slice(0, NAMED).join(', ') + more;
}
