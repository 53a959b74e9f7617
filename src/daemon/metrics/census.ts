import { CENSUS_INTERVAL_MS, CENSUS_SHARE, CENSUS_TIME_MS } from '../../limits.js';
import type { KeyDescription } from '../../provider.js';

export const KEY_STATES = ['active', 'disabled', 'destroyed'] as const;

interface Glance {
  keys: ReadonlyArray<Pick<KeyDescription, 'state' | 'createdAt'>>;
  next: string | null;
}

/** Who tells of some keys after a cursor, little enough for one turn of the event loop. */
interface Keys {
  glance(cursor: string | undefined): Promise<Glance>;
}

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

function add(counted: Counted, keys: Glance['keys']): void {
  for (const { state, createdAt } of keys) {
    counted.byState[state]++;
    if (state === 'destroyed') continue;
    const at = Date.parse(createdAt);
    counted.oldest = Math.min(counted.oldest ?? at, at);
    counted.newest = Math.max(counted.newest ?? at, at);
  }
}

/** Counts the keys of the store by looking at their records: seldom, and never for long. */
export class Census {
  private last: Promise<Counted> = Promise.resolve(nothing());
  private dueAt = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly kms: Keys,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** The last count, or one that is made now if that is too old. Never rejects. */
  look(): Promise<Counted> {
    if (this.now() >= this.dueAt) {
      this.dueAt = Number.POSITIVE_INFINITY;
      this.last = this.count(this.last, this.now());
    }
    return this.last;
  }

  private async count(before: Promise<Counted>, begun: number): Promise<Counted> {
    const counted = nothing();
    let cursor: string | undefined;
    try {
      while (this.now() - begun < CENSUS_TIME_MS) {
        const { keys, next } = await this.kms.glance(cursor);
        add(counted, keys);
        if (next === null) return { ...counted, isComplete: true };
        cursor = next;
      }
    } catch {
      // Sealed, or a store that does not answer. What was known before is nearer to the truth than nothing.
      if (cursor === undefined) return await before;
    } finally {
      this.dueAt = begun + Math.max(CENSUS_INTERVAL_MS, CENSUS_SHARE * (this.now() - begun));
    }
    return counted;
  }
}
