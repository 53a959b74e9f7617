import { CENSUS_INTERVAL_MS, CENSUS_TIME_MS, MAX_CENSUS_KEYS } from '../../limits.js';
import type { KeyPage, Provider } from '../../provider.js';

export const KEY_STATES = ['active', 'disabled', 'destroyed'] as const;

/** A page is read between two turns of the event loop: small, so that requests do not wait for it. */
const PAGE = 100;

export interface Counted {
  byState: Record<(typeof KEY_STATES)[number], number>;
  /** Milliseconds since the epoch, of keys that are not destroyed; undefined where there is none. */
  oldest: number | undefined;
  newest: number | undefined;
  /** False if it ended at a limit, or the store could not be read: the figures are then of a part. */
  isComplete: boolean;
}

function nothing(): Counted {
  return { byState: { active: 0, disabled: 0, destroyed: 0 }, oldest: undefined, newest: undefined, isComplete: false };
}

function add(counted: Counted, keys: KeyPage['keys']): void {
  for (const { state, createdAt } of keys) {
    counted.byState[state]++;
    if (state === 'destroyed') continue;
    const at = Date.parse(createdAt);
    counted.oldest = Math.min(counted.oldest ?? at, at);
    counted.newest = Math.max(counted.newest ?? at, at);
  }
}

/** Counts the keys of the store by reading their records: seldom, and never for long. */
export class Census {
  private last: Promise<Counted> = Promise.resolve(nothing());
  private takenAt = Number.NEGATIVE_INFINITY;

  constructor(private readonly kms: Pick<Provider, 'listKeys'>) {}

  /** The last count, or one that is made now if that is too old. Never rejects. */
  look(): Promise<Counted> {
    if (performance.now() - this.takenAt >= CENSUS_INTERVAL_MS) {
      this.takenAt = performance.now();
      this.last = this.count(this.last);
    }
    return this.last;
  }

  private async count(before: Promise<Counted>): Promise<Counted> {
    const until = performance.now() + CENSUS_TIME_MS;
    const counted = nothing();
    let cursor: string | undefined;
    let seen = 0;
    try {
      while (seen < MAX_CENSUS_KEYS) {
        const query = cursor === undefined ? { limit: PAGE } : { limit: PAGE, cursor };
        const { keys, next } = await this.kms.listKeys(query, { deadlineMs: until - performance.now() });
        add(counted, keys);
        seen += keys.length;
        if (next === null) return { ...counted, isComplete: true };
        cursor = next;
      }
    } catch {
      // Sealed, out of time, or a store that does not answer. What was known before is nearer to the truth than nothing.
      if (seen === 0) return await before;
    }
    return counted;
  }
}
