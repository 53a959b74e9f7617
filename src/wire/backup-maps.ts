import type { BackupDescription } from '../provider.js';
import { listOf, memberOf, numberOf, textOf, uint } from './maps.js';

/** The backup map of docs/PROTOCOL.md. */
export interface BackupMap {
  path: string;
  bytes: number | bigint;
  store_id: string;
  generation: number | bigint;
  created_at: string;
  created_by: string;
  records: number | bigint;
  left_out: readonly string[];
}

export function backupMapOf(backup: BackupDescription): BackupMap {
  return {
    path: backup.path,
    bytes: uint(backup.bytes),
    store_id: backup.storeId,
    generation: uint(backup.generation),
    created_at: backup.createdAt,
    created_by: backup.createdBy,
    records: uint(backup.records),
    left_out: backup.leftOut,
  };
}

export function backupOfMap(value: unknown): BackupDescription {
  const text = (name: string) => textOf(memberOf(value, name), name);
  const number = (name: string) => numberOf(memberOf(value, name), name);
  return {
    path: text('path'),
    bytes: number('bytes'),
    storeId: text('store_id'),
    generation: number('generation'),
    createdAt: text('created_at'),
    createdBy: text('created_by'),
    records: number('records'),
    leftOut: listOf(memberOf(value, 'left_out'), 'left_out').map((keyId) => textOf(keyId, 'left_out')),
  };
}

export function mapOfBackup({ path, skipDamaged }: { path: string; skipDamaged?: boolean }): Record<string, unknown> {
  return skipDamaged === undefined ? { path } : { path, skip_damaged: skipDamaged };
}
