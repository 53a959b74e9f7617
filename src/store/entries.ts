/** Of an ordered map: keys are printable ASCII of up to 1,024 characters, in the order of their bytes. */
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
