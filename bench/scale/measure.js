// All that is measured of one store with so many keys, in a directory of its own that is removed afterwards.
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { writeMasterKey } from '../processes.js';
import { measureCreates } from './creating.js';
import { diskOf } from './disk.js';
import { measureColdStarts, measureDecrypts } from './reading.js';
import { measureRotations, measureServed } from './serving.js';

export async function measurePlace(run, plan, place) {
  const home = mkdtempSync(join(run.scratch, `${place.store}-${place.keys}-`));
  try {
    writeMasterKey(home);
    const created = await measureCreates(run, plan, home, place);
    const disk = diskOf(join(home, 'data'));
    const coldStart = await measureColdStarts(run, plan, home, place);
    const decrypts = await measureDecrypts(run, plan, home, place);
    const served = await measureServed(run, plan, home, place);
    const rotation = await measureRotations(run, home, place);
    return { ...place, created, disk, coldStart, decrypts, served, rotation };
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}
