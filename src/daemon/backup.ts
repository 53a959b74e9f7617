import { createBackup } from '../backup/create.js';
import { KmsError } from '../errors.js';
import type { EmbeddedKms } from '../kms/embedded.js';
import type { BackupDescription, BackupOrder } from '../provider.js';

/** Stores of which a backup is being written: two at once would only take longer. */
const underWay = new WeakSet<EmbeddedKms>();

/** Writes a backup while the store serves. CONFLICT while another one is written. */
export async function backUp(kms: EmbeddedKms, order: BackupOrder, actor: string): Promise<BackupDescription> {
  if (underWay.has(kms)) throw new KmsError('CONFLICT', 'a backup is being written');
  const snapshot = kms.snapshot();
  underWay.add(kms);
  try {
    return await createBackup(snapshot, { ...order, dataDir: kms.dataDir, actor });
  } finally {
    underWay.delete(kms);
    snapshot.release();
  }
}
