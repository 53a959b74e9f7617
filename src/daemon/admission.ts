import { MAX_CONNECTIONS, MAX_CONNECTIONS_PER_UID, MAX_UNKNOWN_CONNECTIONS } from '../limits.js';
import { NO_UID } from './identity.js';

/** As whom a connection is counted: a uid, or the name of somebody who has proved to be it otherwise. */
export type Counted = number | string;

/**
 * Counts connections by who is at their other end, so that none takes the place of all others. Those of which the kernel
 * tells no uid share one count. Whoever is admitted is released once.
 */
export class Admission {
  private readonly held = new Map<Counted, number>();
  private total = 0;

  /** Why one more is refused; undefined, and it is counted, if it is not. */
  admit(who: Counted): string | undefined {
    const held = this.held.get(who) ?? 0;
    if (this.total >= MAX_CONNECTIONS) return 'too many connections';
    if (held >= (who === NO_UID ? MAX_UNKNOWN_CONNECTIONS : MAX_CONNECTIONS_PER_UID)) return 'too many connections of this peer';
    this.total++;
    this.held.set(who, held + 1);
    return undefined;
  }

  release(who: Counted): void {
    this.total--;
    const left = (this.held.get(who) ?? 0) - 1;
    if (left > 0) this.held.set(who, left);
    else this.held.delete(who);
  }
}
