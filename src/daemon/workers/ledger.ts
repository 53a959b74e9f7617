import { MAX_ACCOUNTS } from '../../limits.js';
import type { Cells } from '../accounts.js';
import { HeldBytes } from '../buffers.js';
import type { Count, PaidAt } from '../count.js';
import type { RateLimits } from '../rates.js';
import type { Settled } from './crossing.js';

/** As many accounts as there may be, and the one that the others share. */
const PLACES = MAX_ACCOUNTS + 1;
const PAID_FIELDS = 2;
const COUNT_FIELDS = 2;
const LIMITS = 3;

/** Each thread's `performance.now()` begins when it does; the clock behind it is one. */
const CLOCK_OFFSET_MS = Number(process.hrtime.bigint()) / 1e6 - performance.now();

/** A sum to which each thread adds in a cell of its own, so that what one that ended has left in it can be taken out. */
class SharedCount implements Count {
  constructor(
    private readonly cells: Int32Array,
    private readonly at: number,
    private readonly threads: number,
    private readonly own: number,
  ) {}

  get total(): number {
    let sum = 0;
    for (let thread = 0; thread < this.threads; thread++) sum += Atomics.load(this.cells, this.at + thread);
    return sum;
  }

  add(by: number): void {
    Atomics.add(this.cells, this.at + this.own, by);
  }
}

/**
 * In microseconds, in one cell for all threads. Without a lock: a thread may be ended in the middle of anything, and must not
 * keep the others waiting for what it held.
 */
class SharedPaidAt implements PaidAt {
  constructor(
    private readonly cells: BigInt64Array,
    private readonly cell: number,
  ) {}

  get at(): number {
    return Number(Atomics.load(this.cells, this.cell)) / 1_000 - CLOCK_OFFSET_MS;
  }

  advance(now: number, by: number): void {
    const [from, cost] = [BigInt(Math.round((now + CLOCK_OFFSET_MS) * 1_000)), BigInt(Math.round(by * 1_000))];
    for (let found = Atomics.load(this.cells, this.cell); ; ) {
      const next = (found > from ? found : from) + cost;
      const before = Atomics.compareExchange(this.cells, this.cell, found, next);
      if (before === found) return;
      found = before;
    }
  }
}

/** What the accounts of all threads are kept in: the memory that they share, and which thread's this view of it is. */
export class Ledger {
  readonly limits: RateLimits;
  /** What all of them hold together. */
  readonly held: HeldBytes;
  private readonly rates: Float64Array;
  private readonly paid: BigInt64Array;
  private readonly counts: Int32Array;
  private readonly heldBytes: SharedCount;
  private readonly free: number[] = [];
  private opened = 0;

  constructor(
    readonly memory: SharedArrayBuffer,
    private readonly threads: number,
    private readonly own: number,
  ) {
    this.rates = new Float64Array(memory, 0, LIMITS);
    this.paid = new BigInt64Array(memory, this.rates.byteLength, PLACES * PAID_FIELDS);
    // Those of all accounts together stand behind those of each.
    const counts = (PLACES * COUNT_FIELDS + 1) * threads;
    this.counts = new Int32Array(memory, this.rates.byteLength + this.paid.byteLength, counts);
    this.heldBytes = new SharedCount(this.counts, PLACES * COUNT_FIELDS * threads, threads, own);
    this.held = new HeldBytes(this.heldBytes);
    const { rates } = this;
    this.limits = {
      get requestsPerSecond() {
        return rates[0]!;
      },
      get bytesPerSecond() {
        return rates[1]!;
      },
      get burstMs() {
        return rates[2]!;
      },
    };
  }

  /** For the main thread, which is number 0, and so many beside it. */
  static beside(workers: number): Ledger {
    const threads = workers + 1;
    const bytes = LIMITS * 8 + PLACES * PAID_FIELDS * 8 + (PLACES * COUNT_FIELDS + 1) * threads * 4;
    return new Ledger(new SharedArrayBuffer(bytes), threads, 0);
  }

  /** From now on, on every thread. */
  replace({ requestsPerSecond, bytesPerSecond, burstMs }: RateLimits): void {
    this.rates.set([requestsPerSecond, bytesPerSecond, burstMs]);
  }

  /** A place for an account; only the main thread opens and closes them. */
  open(): number {
    return this.free.pop() ?? this.opened++;
  }

  /** Of one of which nothing is to be remembered. */
  close(place: number): void {
    this.free.push(place);
  }

  cells(place: number): Cells {
    const count = (field: number) =>
      new SharedCount(this.counts, (place * COUNT_FIELDS + field) * this.threads, this.threads, this.own);
    const paidAt = (field: number) => new SharedPaidAt(this.paid, place * PAID_FIELDS + field);
    return { place, requests: count(0), held: count(1), requestsPaidAt: paidAt(0), bytesPaidAt: paidAt(1) };
  }

  /** Gives back what this thread has taken for requests, and the bytes of their frames. */
  settle([place, requests, bytes]: Settled): void {
    const cells = this.cells(place);
    cells.requests.add(-requests);
    cells.held.add(-bytes);
    this.held.give(bytes);
  }

  /** What a thread that has ended had under way and held is not any more. */
  forget(thread: number): void {
    for (let at = thread; at < this.counts.length; at += this.threads) Atomics.store(this.counts, at, 0);
  }
}
