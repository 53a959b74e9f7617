import type { Disk } from './disk.js';
import type { Ledger } from './ledger.js';

interface Keyring {
  keks: Array<{ kek_id: string; state: string }>;
}
interface KeptRecord {
  wrapped: string;
  kek_id: string;
  kek_version: number;
}

/** Every file of a name among the backups, by its path. */
function backupsOf(disk: Disk, dataDir: string, keyId: string): KeptRecord[] {
  const found: KeptRecord[] = [];
  for (const [path, node] of disk.walk()) {
    if (node.kind === 'file' && path.startsWith(`${dataDir}/kms-deks-backup/`) && path.endsWith(`/${keyId}.json`)) {
      found.push(JSON.parse(node.content.toString('utf8')) as KeptRecord);
    }
  }
  return found;
}

/**
 * What a disk as it lies must hold whoever opens it: of each key that a rotation has moved, the record as it was, unless a destroy of
 * it has begun; and of a key of which it was answered that it is destroyed, none.
 */
export function checkBackups(disk: Disk, dataDir: string, ledger: Ledger): void {
  const keyring = disk.read(`${dataDir}/keyring.json`);
  if (keyring === undefined) return;
  const { keks } = JSON.parse(keyring.toString('utf8')) as Keyring;
  const active = keks.find(({ state }) => state === 'active')?.kek_id;
  for (const [keyId, { isGone }] of ledger.keys) {
    const record = disk.read(`${dataDir}/kms-deks/${keyId}.json`);
    if (record === undefined) continue;
    const { kek_id, kek_version, wrapped } = JSON.parse(record.toString('utf8')) as KeptRecord;
    const backups = backupsOf(disk, dataDir, keyId);
    const isKept = backups.some((backup) => backup.wrapped !== '' && backup.kek_id !== kek_id);
    const isMoved = ledger.moved.has(keyId) && wrapped !== '' && kek_id === active && kek_version > 1;
    if (isMoved && !isKept) {
      throw new Error(`${keyId} was moved to the active KEK and its older record is not kept`);
    }
    if (isGone === true && backups.some((backup) => backup.wrapped !== '')) {
      throw new Error(`${keyId} was destroyed and is still kept in a backup`);
    }
  }
}
