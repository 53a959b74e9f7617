import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { KmsError } from './errors.js';

/** Written by others it could be anybody's; a secret that others read is theirs, too. The group of a service may. */
const WRITABLE = 0o022;
const FOR_ALL = 0o007;

export interface Checked {
  isSecret: boolean;
  /** It must belong to our user or to root. */
  isOwned?: boolean;
  maxBytes: number;
}

/**
 * The whole of a file that says who somebody is or whom to trust; it may be a link, as mounted ones are. `name` is what named it,
 * for errors. Mode and content are those of one descriptor. Throws INVALID_ARGUMENT for what is not to be read, not regular or
 * too long, PERMISSION_DENIED with the command that mends it where others may do too much.
 */
export function readChecked(name: string, file: string, { isSecret, isOwned = false, maxBytes }: Checked): Buffer {
  let fd: number;
  try {
    // O_NONBLOCK: what somebody put there instead of a file must not hang us.
    fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (cause) {
    const { code = 'failure' } = cause as NodeJS.ErrnoException;
    throw new KmsError('INVALID_ARGUMENT', `${name}: ${file} cannot be read: ${code}`, { cause });
  }
  try {
    const status = fstatSync(fd);
    if (!status.isFile()) throw new KmsError('INVALID_ARGUMENT', `${name}: ${file} is not a regular file`);
    const own = process.geteuid?.() ?? status.uid;
    if (isOwned && status.uid !== own && status.uid !== 0) {
      throw new KmsError('PERMISSION_DENIED', `${name}: ${file} belongs to uid ${status.uid}: chown ${own} ${file}`);
    }
    const excess = status.mode & (isSecret ? WRITABLE | FOR_ALL : WRITABLE);
    if (excess !== 0) {
      const mend = (excess & WRITABLE) === 0 ? 'o-rwx' : 'go-w';
      throw new KmsError('PERMISSION_DENIED', `${name}: ${file} is open to others: chmod ${mend} ${file}`);
    }
    if (status.size > maxBytes) throw new KmsError('INVALID_ARGUMENT', `${name}: ${file} is longer than ${maxBytes} bytes`);
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
}
