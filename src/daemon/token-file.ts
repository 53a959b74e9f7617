import type { Stats } from 'node:fs';
import { join } from 'node:path';
import { KmsError } from '../errors.js';
import { MAX_TOKEN_FILE_BYTES } from '../limits.js';
import { FILE_MODE, refuseWider } from '../store/data-directory.js';
import { errnoOf, type FileSystem, READ_FLAGS, readWholeSync } from '../store/file-system.js';
import { parseTokens, type StoredToken } from './token-document.js';

export const TOKEN_FILE = 'tokens.json';

export function tokenFileOf(dataDir: string): string {
  return join(dataDir, TOKEN_FILE);
}

/** Whose file is taken: by a daemon only its own, by a command that root runs anybody's. */
export type Trust = 'daemon' | 'command';

/** What a failed system call on the token file or its directory means. */
export function tokenFailure(path: string, error: unknown): KmsError {
  if (error instanceof KmsError) return error;
  const errno = errnoOf(error);
  // O_NOFOLLOW on a link: ELOOP by POSIX, EMLINK on FreeBSD.
  if (errno === 'ELOOP' || errno === 'EMLINK') {
    return new KmsError('STORE_UNAVAILABLE', `${path}: a symbolic link stands in its place`);
  }
  if (errno === 'ENXIO') return new KmsError('STORE_UNAVAILABLE', `${path}: not a regular file`);
  if (errno === '') return new KmsError('INTERNAL', undefined, { cause: error });
  const { syscall = 'read' } = error as NodeJS.ErrnoException;
  const code = errno === 'EACCES' || errno === 'EPERM' ? 'PERMISSION_DENIED' : 'STORE_UNAVAILABLE';
  return new KmsError(code, `${path}: ${errno} at ${syscall}`, { cause: error });
}

function inspect(system: FileSystem, path: string, stats: Stats, trust: Trust): void {
  if (!stats.isFile()) throw new KmsError('STORE_UNAVAILABLE', `${path}: not a regular file`);
  // The file has no MAC: who can write it says who is admin, which nobody else may say to a daemon that runs as root.
  if (trust === 'daemon' && stats.uid !== system.effectiveUid()) {
    throw new KmsError('PERMISSION_DENIED', `${path} belongs to uid ${stats.uid}, the daemon is uid ${system.effectiveUid()}`);
  }
  refuseWider(system, path, stats, FILE_MODE);
  if (stats.size > MAX_TOKEN_FILE_BYTES) {
    throw new KmsError('STORE_UNAVAILABLE', `${path}: more than ${MAX_TOKEN_FILE_BYTES} bytes`);
  }
}

/**
 * The tokens in the file at `path`, none if it is not there. Throws a KmsError of one line that names the file and what is
 * wrong with it. Blocks the thread, for a file of a megabyte at most: the caller sees to it that this is rare.
 */
export function readTokenFile(system: FileSystem, path: string, trust: Trust): StoredToken[] {
  try {
    const fd = system.openSync(path, READ_FLAGS, 0);
    try {
      const stats = system.fstatSync(fd);
      inspect(system, path, stats, trust);
      return parseTokens(path, readWholeSync(system, fd, stats.size));
    } finally {
      system.closeSync(fd);
    }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw tokenFailure(path, error);
  }
}
