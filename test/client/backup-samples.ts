import type { BackupDescription } from '../../dist/provider.js';

/** The same backup as it is on the wire and in the program. */
export const BACKUP_MAP = {
  path: '/b',
  bytes: 5_000_000_000,
  store_id: '0'.repeat(32),
  generation: 7,
  created_at: '2026-01-31T12:00:00.000Z',
  created_by: 'uid:0',
  records: 3,
  left_out: ['k_1'],
};

export const BACKUP: BackupDescription = {
  path: BACKUP_MAP.path,
  bytes: BACKUP_MAP.bytes,
  storeId: BACKUP_MAP.store_id,
  generation: BACKUP_MAP.generation,
  createdAt: BACKUP_MAP.created_at,
  createdBy: BACKUP_MAP.created_by,
  records: BACKUP_MAP.records,
  leftOut: BACKUP_MAP.left_out,
};
