import { writeSync } from 'node:fs';
import { createBackup } from '../../dist/backup/create.js';
import { restoreBackup } from '../../dist/backup/restore.js';
import { createEmbeddedKms } from '../../dist/create.js';
import { RESTORING } from '../backup/ground.js';
import { killingFileSystem } from './kill-point.js';

/** Backs up or restores, and kills its own process at a point of it. A line on standard output is an acknowledgement. */

const [operation = '', dataDir = '', masterKeyFile = '', path = '', point = '', cut = ''] = process.argv.slice(2);
const fileSystem = killingFileSystem(Number(point), cut, () => true);
if (operation === 'backup') {
  const kms = await createEmbeddedKms({ dataDir, masterKeyFile });
  const snapshot = kms.snapshot();
  await createBackup(snapshot, { path, dataDir, actor: 'uid:0', fileSystem });
} else {
  const master = { kind: 'file' as const, path: masterKeyFile, mayBeGroupReadable: false };
  await restoreBackup({ path, dataDir, master, force: true, acceptRollback: true, ...RESTORING, fileSystem });
}
writeSync(1, 'done\n');
process.exit(0);
