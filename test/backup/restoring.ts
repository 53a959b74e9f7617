import { writeSync } from 'node:fs';
import { restoreBackup } from '../../dist/backup/restore.js';
import { master, RESTORING } from './ground.js';

/** A restore to LMDB over a store that is there, which says so and goes no further once so many records are through: to be killed there. */
const [path, directory, dataDir, masterKeyFile, records] = process.argv.slice(2) as [string, string, string, string, string];
let left = Number(records);

await restoreBackup({
  path,
  dataDir,
  master: master({ directory, dataDir, masterKeyFile }),
  store: 'lmdb',
  force: true,
  acceptRollback: true,
  onRecord: () => {
    if (--left > 0) return;
    writeSync(1, 'held\n');
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  },
  ...RESTORING,
});
