import { Socket } from 'node:net';
import { KmsError } from '../errors.js';
import { RETURN_USES_MS, STOP_GRACE_MS } from '../limits.js';

/** A graceful stop is over by then. Nobody is left to end one that hangs. */
const ORPHAN_LIMIT_MS = 2 * (STOP_GRACE_MS + RETURN_USES_MS);

/**
 * Resolves when whoever started us is gone: `fd` is the read end of a pipe (or one end of a pair of sockets) whose other end
 * only it holds, so the kernel closes that with it, however it ends, even before we begin to look. A signal to ask for
 * (PR_SET_PDEATHSIG) would be missed by then, and would come when a thread ends that started us. Never resolves without an
 * fd. Throws INVALID_ARGUMENT for what is neither a pipe nor a socket.
 */
export function parentGone(fd: number | undefined): Promise<'parent_gone'> {
  if (fd === undefined) return new Promise(() => {});
  const end = openEnd(fd);
  return new Promise((resolve) => {
    // What comes is nothing to us, and an error is an end as well as any other.
    end.on('error', () => {});
    end.once('close', () => {
      setTimeout(() => process.exit(1), ORPHAN_LIMIT_MS).unref();
      resolve('parent_gone');
    });
    end.resume().unref();
  });
}

function openEnd(fd: number): Socket {
  try {
    return new Socket({ fd, readable: true, writable: false });
  } catch (cause) {
    throw new KmsError('INVALID_ARGUMENT', `--parent-fd: descriptor ${fd} is neither a pipe nor a socket`, { cause });
  }
}
