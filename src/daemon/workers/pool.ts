import { SWEEP_INTERVAL_MS, WORKER_END_MS } from '../../limits.js';
import { doorbell } from '../../native.js';
import { SharedBuffers } from '../buffers.js';
import { COUNTERS_BYTES, Counters } from '../counters.js';
import type { Identity } from '../identity.js';
import { errorFields } from '../log.js';
import type { Service } from '../operations.js';
import type { Counterpart, CounterpartEvents } from './counterpart.js';
import type { Beginning, Word } from './crossing.js';
import type { Ledger } from './ledger.js';
import { Thread } from './thread.js';

/** What each worker is made with, beside what is shared. */
export type WorkerSettings = Pick<Beginning, 'arenaBytes' | 'keptContexts' | 'timeouts' | 'spinUs'>;

/** The worker threads: hands connections to whichever has fewest, and makes another one for each that ends. */
export class Pool {
  /** By number less one; undefined where one ended and the next has not begun. */
  readonly threads: Array<Thread | undefined> = [];
  /** How often one was made because another had ended. */
  replaced = 0;
  private readonly buffers = new SharedBuffers();
  private readonly space = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
  private readonly counters: SharedArrayBuffer[] = [];
  private readonly starting = new Set<NodeJS.Timeout>();
  private isStopping = false;
  private next = 0;

  constructor(
    private readonly service: Service,
    private readonly count: number,
    private readonly ledger: Ledger,
    private readonly settings: WorkerSettings,
  ) {
    for (let at = 0; at < count; at++) {
      // They outlive the thread that counts in them: what is counted never gets less.
      const memory = new SharedArrayBuffer(COUNTERS_BYTES);
      this.counters.push(memory);
      service.watch.counters.include(new Counters(memory));
    }
    this.tellSpace();
  }

  /** Resolves when all of them serve. Rejects, and none is left, if one cannot. */
  async start(): Promise<void> {
    try {
      await Promise.all(Array.from({ length: this.count }, (_, at) => this.first(at)));
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  /** That serve. */
  get size(): number {
    return this.ready().length;
  }

  /** All of them see it before this returns. */
  tellSpace(): void {
    Atomics.store(new Int32Array(this.space), 0, this.service.kms.space);
  }

  /**
   * Gives the connection to one of them; undefined while there is none. Throws as `Thread.open`. Of those with the fewest it is the
   * one after the last that was given one.
   */
  open(number: number, fd: number, identity: Identity, events: CounterpartEvents): Counterpart | undefined {
    const ready = this.ready();
    const fewest = Math.min(...ready.map(({ size }) => size));
    const candidates = ready.filter(({ size }) => size === fewest);
    const thread = candidates.find(({ number: at }) => at > this.next) ?? candidates[0];
    if (thread === undefined) return undefined;
    this.next = thread.number;
    return thread.open(number, fd, identity, events);
  }

  /** Called every SWEEP_INTERVAL_MS. */
  sweep(): void {
    for (const thread of this.threads) thread?.sweep();
  }

  /** For when no connection is left. One that does not end by itself is ended. */
  async stop(): Promise<void> {
    this.isStopping = true;
    for (const timer of this.starting) clearTimeout(timer);
    const threads = this.threads.filter((thread) => thread !== undefined);
    for (const thread of threads) thread.finish();
    const impatient = setTimeout(() => {
      for (const thread of threads) void thread.terminate();
    }, WORKER_END_MS);
    await Promise.all(threads.map(({ ended }) => ended));
    clearTimeout(impatient);
    this.buffers.wipe();
  }

  private ready(): Thread[] {
    return this.threads.filter((thread) => thread?.isReady === true && !thread.isQuiet) as Thread[];
  }

  private first(at: number): Promise<void> {
    return new Promise((resolve, reject) => this.make(at, resolve, reject));
  }

  private make(at: number, onReady: () => void, onEnd: (cause: unknown) => void): void {
    const number = at + 1;
    const { space, ledger, settings } = this;
    const shared = { space, ledger: ledger.memory, counters: this.counters[at]!, threads: this.count + 1 };
    let wasReady = false;
    const ended = (cause: unknown) => {
      this.threads[at] = undefined;
      this.ledger.forget(number);
      if (this.isStopping) return;
      onEnd(cause ?? new Error('it ended'));
      this.service.log('error', 'worker_ended', { worker: number, ...(cause === undefined ? {} : errorFields(cause)) });
      this.replace(at, wasReady);
    };
    try {
      this.threads[at] = new Thread(number, { ...settings, ...shared, thread: number }, this.service, this.buffers, {
        onReady: () => {
          wasReady = true;
          onReady();
        },
        onEnd: ended,
        onTidings: (tidings) => this.hear(tidings),
      });
    } catch (error) {
      // The system gives no more threads: whoever is served by the others must not pay for it.
      ended(error);
    }
  }

  /** At once, unless it ended before it could serve: then the next one would, too. */
  private replace(at: number, wasReady: boolean): void {
    const timer = setTimeout(
      () => {
        this.starting.delete(timer);
        this.replaced++;
        this.make(
          at,
          () => this.service.log('info', 'worker_replaced', { worker: at + 1 }),
          () => {},
        );
      },
      wasReady ? 0 : SWEEP_INTERVAL_MS,
    );
    this.starting.add(timer);
  }

  private hear({ denials, overRate, hasRung }: Extract<Word, { kind: 'tidings' }>): void {
    const { kms, accounts } = this.service;
    for (const { denial, times } of denials) this.service.denials.note(denial, times);
    for (const { actor, requests } of overRate) accounts.noteRefused(actor, requests);
    if (!hasRung) return;
    doorbell.fill(1);
    kms.answerDoorbell();
  }
}
