/** Keys are printable ASCII of up to 1,024 characters, in the order of their bytes. */
export interface Entry {
  key: string;
  value: Uint8Array;
}

/** What must be found under a key: exactly these bytes, or nothing. */
export interface Expectation {
  key: string;
  value: Uint8Array | undefined;
}

/** Changes that are made together, or not at all. */
export interface Unit {
  expect: readonly Expectation[];
  put: readonly Entry[];
  remove: readonly string[];
}

export interface RangeQuery {
  /** The first key that may be found. */
  from: string;
  /** The first key beyond. */
  to: string;
  /** Entries at most. */
  limit: number;
  /** The entry with which the values come to so many bytes is the last: one or more; unless told, any number. */
  bytes?: number;
  /** The last ones, the last first. */
  reverse?: boolean;
}

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
