// Bytes on disk by what they are for: as long as the files say they are, and as many as the disk has given them.
import { execFileSync } from 'node:child_process';
import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

const SECTOR = 512;

function* filesIn(dir) {
  const found = lstatSync(dir);
  yield { path: dir, apparent: found.isDirectory() ? 0 : found.size, allocated: found.blocks * SECTOR };
  if (!found.isDirectory()) return;
  for (const name of readdirSync(dir)) yield* filesIn(join(dir, name));
}

const IS_AUDIT = /^kms-audit.*\.log$/;
/** Of the audit log, for a disk that is full: it is as long with one key as with a million. */
const RESERVE = 'kms-audit.reserve';

/** `{store, audit}`, each `{apparent, allocated}`. A hard link counts once for each name. */
export function diskOf(dataDir) {
  const nothing = () => ({ apparent: 0, allocated: 0 });
  const used = { store: nothing(), audit: nothing() };
  for (const name of readdirSync(dataDir)) {
    if (name === RESERVE) continue;
    const kind = IS_AUDIT.test(name) ? 'audit' : 'store';
    for (const { apparent, allocated } of filesIn(join(dataDir, name))) {
      used[kind].apparent += apparent;
      used[kind].allocated += allocated;
    }
  }
  return used;
}

/** Of the audit log alone, which is a few files whatever the store is. */
export function auditBytes(dataDir) {
  const files = readdirSync(dataDir).filter((name) => IS_AUDIT.test(name));
  return files.reduce((all, name) => all + lstatSync(join(dataDir, name)).size, 0);
}

/** Has the kernel forget what it keeps of the files below: the next who reads them waits for the disk. Whoever maps one keeps it. */
export function dropCaches(dataDir) {
  for (const name of readdirSync(dataDir)) {
    const path = join(dataDir, name);
    if (lstatSync(path).isFile()) execFileSync('dd', [`if=${path}`, 'iflag=nocache', 'count=0', 'status=none']);
  }
}
