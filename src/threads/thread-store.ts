import type { Entry, RangeQuery, Unit } from '../store/entries.js';

export type { Entry, Expectation, RangeQuery, Unit } from '../store/entries.js';

/** Where threads live: an ordered map from keys to bytes. Every method rejects with STORE_UNAVAILABLE when the store fails. */
export interface ThreadStore {
  /** Whether other processes may have it open, too. Where not, what another process has begun is nobody's any more. */
  readonly isShared: boolean;
  /** One value for each key, in order; what is given out is the caller's. */
  get(keys: readonly string[]): Promise<Array<Uint8Array | undefined>>;
  range(query: RangeQuery): Promise<Entry[]>;
  /**
   * Makes each unit whose expectations hold at that instant, in order, so that a unit sees what those before it changed. The bytes
   * given must stay as they are until it settles. Durable
   * when it resolves, with whether each was made. After a crash before that, each unit is there as a whole or not at all.
   */
  commit(units: readonly Unit[]): Promise<boolean[]>;
  /** Leaves nothing in the store's bytes of values that were removed or replaced before. Durable when it resolves. */
  compact(): Promise<void>;
  close(): Promise<void>;
}
