import { MAX_CONNECTIONS, MAX_CONNECTIONS_PER_UID, MAX_UNKNOWN_CONNECTIONS } from '../limits.js';
import { NO_UID } from './identity.js';

/** As whom a connection is counted: a uid, or (`KNOWN`) by its identity's account, and here among all only. */
export const KNOWN = -1;

/**
 * Counts connections by the uid at their other end, so that none takes the place of all others. Those of which the kernel
 * tells no uid share one count, until they are known by something else. Whoever is admitted is released once.
 */
export class Admission {
  private readonly byUid = new Map<number, number>();
  private total = 0;

  /** Why one more is refused; undefined, and it is counted, if it is not. */
  admit(uid: number): string | undefined {
    const held = this.byUid.get(uid) ?? 0;
    if (this.total >= MAX_CONNECTIONS) return 'too many connections';
    if (held >= (uid === NO_UID ? MAX_UNKNOWN_CONNECTIONS : MAX_CONNECTIONS_PER_UID)) return 'too many connections of this peer';
    this.total++;
    this.byUid.set(uid, held + 1);
    return undefined;
  }

  /** What was counted under `uid` is gone. */
  release(uid: number): void {
    this.total--;
    this.forget(uid);
  }

  /** It is still there, and counted by the name that it gave. */
  forget(uid: number): void {
    if (uid === KNOWN) return;
    const left = (this.byUid.get(uid) ?? 0) - 1;
    if (left > 0) this.byUid.set(uid, left);
    else this.byUid.delete(uid);
  }
}
