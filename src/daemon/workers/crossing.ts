import type { ErrorCode } from '../../errors.js';
import type { Space } from '../../native.js';
import type { Timeouts } from '../config.js';
import type { Denial } from '../denials.js';
import type { Fields, Level } from '../log.js';

/** What a worker is made with. All memory in it is shared with the main thread. */
export interface Beginning {
  /** Its own number: the main thread is 0. */
  thread: number;
  threads: number;
  /** One cell: the space of the store that is open, 0 while it is sealed. */
  space: SharedArrayBuffer;
  ledger: SharedArrayBuffer;
  counters: SharedArrayBuffer;
  arenaBytes: number;
  keptContexts: number;
  timeouts: Timeouts;
  spinUs: number;
}

/** Who a connection is, as far as its worker has to know. */
export interface Told {
  /** Nobody yet, where that is false. */
  isKnown: boolean;
  actor: string;
  /** For the native core. */
  bits: number;
  /** Of its account in the ledger. */
  place: number;
}

/** Requests that are answered, or never will be, and the bytes of their frames: by the account that they were taken from. */
export type Settled = [place: number, requests: number, bytes: number];

/** To a worker. The connection's number is the same on both sides. */
export type Order =
  /** The descriptor is the worker's from when it answers `opened`. */
  | { kind: 'open'; connection: number; fd: number; told: Told }
  | { kind: 'told'; connection: number; told: Told }
  /** Into a database, whose keys are in that space, or with 0 out of it. */
  | { kind: 'moved'; connection: number; space: Space }
  | { kind: 'finish'; connection: number }
  | { kind: 'destroy'; connection: number }
  | { kind: 'breakOff'; connection: number; code: ErrorCode; detail: string }
  /** Frames for the peer. A `secret` one is wiped by the worker. */
  | { kind: 'answers'; connection: number; bytes: ArrayBuffer | undefined; secret: boolean; settled: Settled[] }
  /** The last tidings have been heard. */
  | { kind: 'heard' }
  /** Whether it still takes orders. */
  | { kind: 'ask' }
  /** Nobody is left: the thread ends by itself. */
  | { kind: 'end' };

/** Where each frame lies in the bytes, and why it was left to the main thread. */
export type Lying = [start: number, length: number, why: number];

/** From a worker. */
export type Word =
  | { kind: 'ready' }
  /** To `ask`. */
  | { kind: 'here' }
  | { kind: 'opened' | 'refused' | 'closed'; connection: number }
  /** What the native core has left: all of one chunk. The main thread wipes it, and settles with the account at `place`. */
  | { kind: 'frames'; connection: number; place: number; bytes: ArrayBuffer; frames: Lying[] }
  | { kind: 'log'; level: Level; event: string; fields: Fields | undefined }
  | ({ kind: 'tidings' } & Tidings);

/** What may come about more often than it can be told: gathered until the last of it was heard. */
export interface Tidings {
  denials: Array<{ denial: Denial; times: number }>;
  overRate: Array<{ actor: string; requests: number }>;
  /** Keys want more uses, or audit events want to be written. */
  hasRung: boolean;
}
