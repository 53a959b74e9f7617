import { statSync } from 'node:fs';
import { isAbsolute, resolve } from 'node:path';
import { quoted } from './checks.js';
import { Failure, isSystemError } from './failure.js';
import type { Access } from './provider.js';

/**
 * The path of a new master key as the process that has the store takes it. That one reads the file; here it is only seen to
 * that it is not plainly missing, which is worth a better hint than the daemon's.
 */
export function newMasterKeyPath(file: string, access: Access): string {
  if (access.kind === 'daemon' && access.address.socket === undefined) {
    if (isAbsolute(file)) return file;
    throw new Failure('USAGE', `${file} is to be a file of the daemon's machine`, 'name it by its absolute path there');
  }
  const path = resolve(file);
  if (!isMissing(path)) return path;
  throw new Failure('FILE', `${path} does not exist`, `\`progressdb-kms new-key ${quoted(path)}\` makes one`);
}

/** A file that we may not see may be the daemon's to read. */
function isMissing(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false }) === undefined;
  } catch (error) {
    return isSystemError(error) && error.code === 'ENOTDIR';
  }
}
