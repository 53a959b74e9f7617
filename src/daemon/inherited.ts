import { KmsError } from '../errors.js';

/** Where inherited listeners begin: sd_listen_fds(3). */
const FIRST_FD = 3;
/** More than anybody binds for one daemon. */
const MOST_FDS = 16;

/**
 * The descriptors of the listening sockets that whoever started us has bound and left open (LISTEN_FDS; systemd also says by
 * LISTEN_PID whom they are for). The variables are taken out of `env`, so that no process of ours takes them for its own. Throws
 * INVALID_ARGUMENT for a number that is none.
 */
export function takeInherited(env: NodeJS.ProcessEnv, ownPid = process.pid): number[] {
  const { LISTEN_FDS: fds, LISTEN_PID: pid } = env;
  for (const name of ['LISTEN_FDS', 'LISTEN_PID', 'LISTEN_FDNAMES']) delete env[name];
  if (fds === undefined || (pid !== undefined && pid !== String(ownPid))) return [];
  const count = /^\d{1,3}$/.test(fds) ? Number(fds) : Number.NaN;
  if (!(count <= MOST_FDS)) throw new KmsError('INVALID_ARGUMENT', `LISTEN_FDS: must be a number up to ${MOST_FDS}`);
  return Array.from({ length: count }, (_, index) => FIRST_FD + index);
}
