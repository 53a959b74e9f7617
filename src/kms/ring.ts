import type { Handle } from '../vault.js';

export interface ActiveKek {
  kekId: string;
  kekVersion: number;
  handle: Handle;
}

/** What wraps and authenticates data keys: the keyring of a store, or what a database has in its place. */
export interface Ring {
  readonly storeId: string;
  readonly recordMac: Handle;
  /** '' before the first use of the default key. */
  readonly defaultKeyId: string;
  /** The KEK that a record names; STORE_UNAVAILABLE if it is gone. */
  kek(kekId: string): Handle;
  /** Runs `work` with the KEK that wraps, and `count` wraps (one) counted for it. */
  withKek<T>(work: (kek: ActiveKek) => Promise<T>, count?: number): Promise<T>;
  /** KEKs are not retired until what is returned is called. */
  holdRetirement(): () => void;
  setDefaultKey(keyId: string): Promise<void>;
  /** Whether it holds the KEK. */
  holds(kekId: string): boolean;
  /** Takes over what another process of the same store has changed; false if that is nothing. */
  refresh(): Promise<boolean>;
}
