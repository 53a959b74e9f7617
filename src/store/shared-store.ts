import type { AuditKey } from './key-store.js';

/** What a daemon says of itself with each sign of life. */
export interface Report {
  /** Of the keyring that it works with. */
  generation: number;
  /** The slot that it was opened with. */
  slotId: string;
}

export interface Peer extends Report {
  daemonId: string;
}

/** What becomes of the news of a store. */
export interface News {
  /** A key's state or KEK is another one, or its record is gone. */
  key(keyId: string): void;
  keyring(): void;
  /** Anything may have changed unnoticed: nothing that was read before may be relied upon. */
  everything(): void;
  /**
   * All that was changed before `askedAt` (milliseconds of `sinceBoot`) has been told. `generation` is that of the keyring then.
   * What rejects ends the connection, and everything begins anew with another one.
   */
  upToDate(askedAt: number, generation: number): Promise<void>;
}

export interface Watch {
  /** Resolves when the store has been heard for the first time; rejects if that fails. */
  readonly begun: Promise<void>;
  stop(): Promise<void>;
}

/** A lock of one holder among all daemons, which goes with its connection or its process. */
export interface Lease {
  /** Aborted when it is lost. */
  readonly lost: AbortSignal;
  release(): Promise<void>;
}

/** What others are told of a rotation, opaque to the store. */
export interface ToldRotation {
  rotationId: string;
  /** Nothing in it is secret. */
  status: string;
}

/** What the daemons of one store have in common, beside the keyring and the records. As of a store, what resolves is durable. */
export interface SharedStore {
  /** Of this daemon. */
  readonly daemonId: string;
  /** How old the last sign of life may be. */
  readonly staleAfterMs: number;
  /** Listens from here on, and gives signs of life. One at a time. */
  watch(report: () => Report, news: News): Watch;
  /** All that are alive, this one too. One that is not has refused every use of a key for some time. */
  peers(): Promise<Peer[]>;
  /** Undefined while another one holds it. */
  lease(name: string): Promise<Lease | undefined>;
  /** Runs `work` while nobody else runs any of that name. */
  exclusively<T>(name: string, work: () => Promise<T>): Promise<T>;
  /** Keys that sign the audit log of this daemon. */
  readAuditKeys(): Promise<AuditKey[]>;
  /** Superseded unless the keyring has that generation: it is its root key that they stand under. */
  writeAuditKeys(keys: AuditKey[], generation: number): Promise<void>;
  readRotation(): Promise<ToldRotation | undefined>;
  writeRotation(rotation: ToldRotation): Promise<void>;
}
