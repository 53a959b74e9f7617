import { KmsError } from '../errors.js';
import { MAX_ACCOUNTS, MAX_COLD_PER_IDENTITY, MAX_CONNECTIONS_PER_IDENTITY, MAX_HELD_BYTES_PER_IDENTITY } from '../limits.js';
import { type Held, HeldBytes } from './buffers.js';
import { type Count, OwnCount, OwnPaidAt, type PaidAt } from './count.js';
import { ANONYMOUS, type Identity } from './identity.js';
import { Burst, type Log } from './log.js';
import { Bucket, type RateLimits } from './rates.js';
import type { Ledger } from './workers/ledger.js';

/** Where an account is kept. */
export interface Cells {
  /** In the ledger; −1 for what only this thread knows. */
  readonly place: number;
  readonly requests: Count;
  readonly held: Count;
  readonly requestsPaidAt: PaidAt;
  readonly bytesPaidAt: PaidAt;
}

function ownCells(): Cells {
  return {
    place: -1,
    requests: new OwnCount(),
    held: new OwnCount(),
    requestsPaidAt: new OwnPaidAt(),
    bytesPaidAt: new OwnPaidAt(),
  };
}

/** What one identity takes of the daemon, over all of its connections and both protocols, so that it leaves others theirs. */
export class Account implements Held {
  readonly bucket: Bucket;
  /** That are its own. They are counted where they come in: on the main thread. */
  connections = 0;

  constructor(
    readonly actor: string,
    limits: RateLimits,
    private readonly shared: Held,
    private readonly onRefused: (account: Account, requests: number) => void,
    private readonly cells: Cells = ownCells(),
  ) {
    this.bucket = new Bucket(limits, cells.requestsPaidAt, cells.bytesPaidAt);
  }

  get place(): number {
    return this.cells.place;
  }

  /** A connection that was somebody else's becomes its own. Throws BUSY if it has too many. */
  join(): void {
    if (this.isCrowded) throw new KmsError('BUSY', 'too many connections of this identity');
    this.connections++;
  }

  /** Whether a connection more would be one too many. */
  get isCrowded(): boolean {
    return this.connections >= MAX_CONNECTIONS_PER_IDENTITY;
  }

  get isFull(): boolean {
    return this.cells.requests.total >= MAX_COLD_PER_IDENTITY;
  }

  /** False, and nothing is counted, if a request is one too many. */
  begin(): boolean {
    // Counted first: see HeldBytes.
    this.cells.requests.add(1);
    if (this.cells.requests.total <= MAX_COLD_PER_IDENTITY) return true;
    this.cells.requests.add(-1);
    return false;
  }

  end(requests = 1): void {
    this.cells.requests.add(-requests);
  }

  take(bytes: number): boolean {
    const { held } = this.cells;
    held.add(bytes);
    if (held.total <= MAX_HELD_BYTES_PER_IDENTITY && this.shared.take(bytes)) return true;
    held.add(-bytes);
    return false;
  }

  give(bytes: number): void {
    this.cells.held.add(-bytes);
    this.shared.give(bytes);
  }

  /** Requests of it were refused because it asks too often. */
  refused(requests: number): void {
    this.onRefused(this, requests);
  }

  /** Whether there is nothing to remember of it. */
  isIdle(now: number): boolean {
    const { requests, held } = this.cells;
    return this.connections === 0 && requests.total === 0 && held.total === 0 && this.bucket.isRested(now);
  }
}

/** The accounts of all identities that are there, or were lately. */
export class Accounts {
  /** What all of them hold together. */
  readonly held: HeldBytes;
  private readonly byActor = new Map<string, Account>();
  private readonly overRate: Burst;
  /** Of those who come when there are more than are kept apart. */
  private readonly others: Account;

  constructor(
    private limits: RateLimits,
    log: Log,
    private readonly onRefused: (requests: number) => void = () => {},
    /** Where other threads serve the same identities: then all of them count in it. */
    private readonly ledger?: Ledger,
  ) {
    this.overRate = new Burst(log, 'warn', 'over_rate');
    this.held = ledger?.held ?? new HeldBytes();
    this.limits = this.shared(limits);
    this.others = this.make('others');
  }

  of({ actor }: Identity): Account {
    const known = this.byActor.get(actor);
    if (known !== undefined) return known;
    // Not looked through for idle ones here: whoever brings ever new names would have that done for each of them.
    if (this.byActor.size >= MAX_ACCOUNTS) return this.others;
    const made = this.make(actor);
    this.byActor.set(actor, made);
    return made;
  }

  /**
   * The pace at which a connection that came as `identity` is read. Nobodies have nothing in common: one that asks too much must not
   * keep another's hello, of which the rest has yet to come, from being read.
   */
  paceOf(identity: Identity): Account {
    return identity === ANONYMOUS ? this.makeApart(identity.actor) : this.of(identity);
  }

  /** From now on. */
  replace(limits: RateLimits): void {
    this.limits = this.shared(limits);
    for (const account of [...this.byActor.values(), this.others]) account.bucket.replace(this.limits);
  }

  /** The same, where all threads see them. */
  private shared(limits: RateLimits): RateLimits {
    this.ledger?.replace(limits);
    return this.ledger?.limits ?? limits;
  }

  /** Called once a second. */
  sweep(): void {
    this.overRate.turn();
    this.dropIdle();
  }

  private make(actor: string): Account {
    return this.makeApart(actor, this.ledger?.cells(this.ledger.open()));
  }

  private makeApart(actor: string, cells?: Cells): Account {
    return new Account(actor, this.limits, this.held, (_, requests) => this.noteRefused(actor, requests), cells);
  }

  /** Every refusal for a rate comes through here, those on other threads too. */
  noteRefused(actor: string, requests: number): void {
    this.onRefused(requests);
    this.overRate.note(() => ({ actor, requests }));
  }

  private dropIdle(): void {
    const now = performance.now();
    for (const [actor, account] of this.byActor) {
      if (!account.isIdle(now)) continue;
      this.byActor.delete(actor);
      if (account.place >= 0) this.ledger?.close(account.place);
    }
  }
}
