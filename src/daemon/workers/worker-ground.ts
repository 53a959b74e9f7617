import { doorbell, type Space } from '../../native.js';
import { Account, type Cells } from '../accounts.js';
import { Counters } from '../counters.js';
import type { Ground } from '../ground.js';
import { ANONYMOUS, type Identity } from '../identity.js';
import type { Log } from '../log.js';
import { Spin } from '../spin.js';
import type { Beginning, Settled, Told } from './crossing.js';
import { Ledger } from './ledger.js';
import type { Gathering } from './tidings.js';

/** What the connections of a worker stand on: memory that it shares with the main thread, and what it is told. */
export class WorkerGround implements Ground {
  readonly kms: Ground['kms'];
  readonly watch: { readonly counters: Counters };
  readonly timeouts: Ground['timeouts'];
  readonly spin: Spin | undefined;
  readonly isStrict = false;
  private readonly ledger: Ledger;
  private readonly known = new WeakMap<Identity, Told>();
  private readonly byPlace = new Map<number, Account>();

  constructor(
    { space, ledger, threads, thread, counters, timeouts, spinUs }: Beginning,
    readonly log: Log,
    private readonly gathering: Gathering,
  ) {
    const cell = new Int32Array(space);
    const open = (): Space => Atomics.load(cell, 0);
    this.kms = {
      // Another store's, or none, from the moment that the main thread says so. That a worker may see it a moment late is no harm:
      // the keys of a space that was closed are gone, and what finds none is sent to the main thread, which says why.
      get space() {
        return open();
      },
      get sealed() {
        return open() === 0;
      },
      // Of interest only where answers wait for the log: then no workers are made.
      refusesData: false,
      dataWritten: async () => {},
      // Records are read on the main thread, for all frames of a chunk in one step.
      hasRecordsAtHand: false,
      loadKeys: () => {},
      answerDoorbell: () => {
        doorbell.fill(0);
        gathering.rang();
      },
    };
    this.ledger = new Ledger(ledger, threads, thread);
    this.watch = { counters: new Counters(counters) };
    this.timeouts = timeouts;
    this.spin = spinUs === 0 ? undefined : new Spin(spinUs / 1_000);
  }

  /** The identity that stands here for what the main thread knows. */
  identityOf(told: Told): Identity {
    // Nobody is one and the same on each thread. Its account stays where it is as long as anybody has it.
    const identity = told.isKnown ? { actor: told.actor, roles: new Set<never>() } : ANONYMOUS;
    this.known.set(identity, told);
    return identity;
  }

  readonly policy = { bitsOf: (identity: Identity) => this.toldOf(identity).bits };

  readonly accounts = {
    of: (identity: Identity) => this.accountAt(this.toldOf(identity).place, identity.actor),
    // As in Accounts.
    paceOf: (identity: Identity) => (identity === ANONYMOUS ? this.make(identity.actor) : this.accounts.of(identity)),
  };

  readonly denials = {
    note: (...denied: Parameters<Gathering['denied']>) => this.gathering.denied(...denied),
  };

  settle(settled: Settled): void {
    this.ledger.settle(settled);
  }

  private accountAt(place: number, actor: string): Account {
    const known = this.byPlace.get(place);
    // A place may be somebody else's by now.
    if (known?.actor === actor) return known;
    const made = this.make(actor, this.ledger.cells(place));
    this.byPlace.set(place, made);
    return made;
  }

  private make(actor: string, cells?: Cells): Account {
    const { limits, held } = this.ledger;
    return new Account(actor, limits, held, (_, requests) => this.gathering.overRateBy(actor, requests), cells);
  }

  private toldOf(identity: Identity): Told {
    const told = this.known.get(identity);
    if (told === undefined) throw new Error('nobody has told of this identity');
    return told;
  }
}
