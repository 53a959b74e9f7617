import { KmsError } from '../errors.js';
import { MAX_ACCOUNTS, MAX_COLD_PER_IDENTITY, MAX_CONNECTIONS_PER_IDENTITY, MAX_HELD_BYTES_PER_IDENTITY } from '../limits.js';
import { type Held, HeldBytes } from './buffers.js';
import { ANONYMOUS, type Identity } from './identity.js';
import { Burst, type Log } from './log.js';
import { Bucket, type RateLimits } from './rates.js';

/** What one identity takes of the daemon, over all of its connections and both protocols, so that it leaves others theirs. */
export class Account implements Held {
  readonly bucket: Bucket;
  /** That are its own. */
  connections = 0;
  /** Under way, beside those that are answered at once. */
  private requests = 0;
  private held = 0;

  constructor(
    readonly actor: string,
    limits: RateLimits,
    private readonly shared: Held,
    private readonly onRefused: (account: Account, requests: number) => void,
  ) {
    this.bucket = new Bucket(limits);
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
    return this.requests >= MAX_COLD_PER_IDENTITY;
  }

  /** False, and nothing is counted, if a request is one too many. */
  begin(): boolean {
    if (this.isFull) return false;
    this.requests++;
    return true;
  }

  end(): void {
    this.requests--;
  }

  take(bytes: number): boolean {
    if (this.held + bytes > MAX_HELD_BYTES_PER_IDENTITY || !this.shared.take(bytes)) return false;
    this.held += bytes;
    return true;
  }

  give(bytes: number): void {
    this.held -= bytes;
    this.shared.give(bytes);
  }

  /** Requests of it were refused because it asks too often. */
  refused(requests: number): void {
    this.onRefused(this, requests);
  }

  /** Whether there is nothing to remember of it. */
  isIdle(now: number): boolean {
    return this.connections === 0 && this.requests === 0 && this.held === 0 && this.bucket.isRested(now);
  }
}

/** The accounts of all identities that are there, or were lately. */
export class Accounts {
  /** What all of them hold together. */
  readonly held = new HeldBytes();
  private readonly byActor = new Map<string, Account>();
  private readonly overRate: Burst;
  /** Of those who come when there are more than are kept apart. */
  private readonly others: Account;

  constructor(
    private limits: RateLimits,
    log: Log,
    private readonly onRefused: (requests: number) => void = () => {},
  ) {
    this.overRate = new Burst(log, 'warn', 'over_rate');
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
    return identity === ANONYMOUS ? this.make(identity.actor) : this.of(identity);
  }

  /** From now on. */
  replace(limits: RateLimits): void {
    this.limits = limits;
    for (const account of [...this.byActor.values(), this.others]) account.bucket.replace(limits);
  }

  /** Called once a second. */
  sweep(): void {
    this.overRate.turn();
    this.dropIdle();
  }

  private make(actor: string): Account {
    return new Account(actor, this.limits, this.held, (account, requests) => this.noteRefused(account, requests));
  }

  /** Every refusal for a rate comes through here. */
  private noteRefused({ actor }: Account, requests: number): void {
    this.onRefused(requests);
    this.overRate.note(() => ({ actor, requests }));
  }

  private dropIdle(): void {
    const now = performance.now();
    for (const [actor, account] of this.byActor) if (account.isIdle(now)) this.byActor.delete(actor);
  }
}
