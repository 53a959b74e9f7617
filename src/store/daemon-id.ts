import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { KmsError } from '../errors.js';
import { prepareDirectory, removeLeftovers, syncWayTo } from './data-directory.js';
import { DurableDirectory } from './durable-directory.js';
import type { FileSystem } from './file-system.js';
import { Turnstile } from './turnstile.js';
import { WriteLatch } from './write-latch.js';

const NAME = 'daemon-id';
const PATTERN = /^d_[0-9a-f]{32}\n$/;

/**
 * Tells the daemon of this data directory from the others of its store, from its first start on. The caller holds the lock of the
 * directory. Durable when it resolves: the audit log beside it is known to the store by this name, and one that is gone is
 * missed.
 */
export async function daemonIdIn(system: FileSystem, dataDir: string): Promise<string> {
  await prepareDirectory(system, dataDir);
  await removeLeftovers(system, dataDir);
  const directory = await DurableDirectory.open(dataDir, system, new WriteLatch(), new Turnstile(1));
  try {
    const found = await directory.read(NAME, 64);
    if (found !== undefined) return idOf(Buffer.from(found).toString('latin1'), dataDir);
    await syncWayTo(system, dataDir);
    const daemonId = `d_${randomBytes(16).toString('hex')}`;
    directory.replaceSync(await directory.stage(NAME, Buffer.from(`${daemonId}\n`)), NAME);
    await directory.sync();
    return daemonId;
  } finally {
    await directory.close();
  }
}

function idOf(text: string, dataDir: string): string {
  if (!PATTERN.test(text)) throw new KmsError('STORE_UNAVAILABLE', `${join(dataDir, NAME)} is damaged`);
  return text.trim();
}
