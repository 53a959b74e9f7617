import type { ErrorCode } from '../errors.js';
import { binding } from '../native.js';
import type { Account } from './accounts.js';
import type { Timeouts } from './config.js';
import type { Reason, Surface } from './counters.js';
import type { Deferred } from './deferred.js';
import type { Denial } from './denials.js';
import { ANONYMOUS, type Identity } from './identity.js';
import type { Log } from './log.js';
import type { Spin } from './spin.js';
import type { Vault } from './walk.js';

/** What a connection stands on, whichever thread it is on. */
export interface Ground {
  readonly kms: Vault & { dataWritten(): Promise<void> };
  readonly accounts: { of(identity: Identity): Account; paceOf(identity: Identity): Account };
  readonly policy: { bitsOf(identity: Identity): number };
  readonly watch: {
    readonly counters: {
      refused(reason: Reason): void;
      answered(surface: Surface, place: number, outcome: 'ok' | ErrorCode): void;
    };
  };
  readonly denials: { note(denial: Denial, times: number): void };
  readonly log: Log;
  readonly timeouts: Timeouts;
  readonly spin: Spin | undefined;
  readonly isStrict: boolean;
}

/** The requests of one connection that are not answered at once. */
export interface Waiting {
  readonly underWay: number;
  /** Whether one more would be answered BUSY. */
  readonly isFull: boolean;
  /** The frames belong to this from now. */
  takeAll(frames: readonly Deferred[]): void;
}

/** Numbers of identities in the audit log; of nobody it is 0. */
const actors = new WeakMap<Identity, number>();

export function actorOf(identity: Identity): number {
  let number = actors.get(identity);
  if (number === undefined) {
    number = identity === ANONYMOUS ? 0 : binding.auditActor(identity.actor);
    actors.set(identity, number);
  }
  return number;
}
