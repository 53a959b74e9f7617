import { writeSync } from 'node:fs';
import { migrateStore } from '../../dist/backup/migrate.js';
import type { StoreKind } from '../../dist/store/key-store.js';

/** A migration that says so and goes no further once so many records of a step are through: to be killed there. */
const [dataDir, to, step, records] = process.argv.slice(2) as [string, StoreKind, string, string];
let left = Number(records);

await migrateStore({
  dataDir,
  to,
  onStep: (name) => () => {
    if (name !== step || --left > 0) return;
    writeSync(1, 'held\n');
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  },
});
