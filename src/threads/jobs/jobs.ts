import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { KmsError } from '../../errors.js';
import { threadKey } from '../names.js';
import type { ThreadRecord } from '../thread-record.js';
import type { Unit } from '../thread-store.js';
import type { Restored } from './backups.js';
import { countEntries, forecast } from './forecast.js';
import {
  type Forecast,
  isOver,
  type Job,
  type JobKind,
  type JobOptions,
  type JobPage,
  type JobQuery,
  type JobStatus,
} from './job.js';
import type { Written } from './job-book.js';
import { Runner } from './runner.js';
import type { Workshop } from './workshop.js';

const DEFAULTS: JobOptions = { messagesPerSecond: 0, concurrency: 4, keepBackupsMs: 7 * 24 * 3_600_000 };
const MAX_RATE = 10_000_000;
const MAX_CONCURRENCY = 16;
const MAX_KEEP_MS = 10 * 365 * 24 * 3_600_000;
const LOOK_AGAIN_MS = 100;
const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 1_000;

/** Within these bounds, or INVALID_ARGUMENT. */
const BOUNDS: Array<['messagesPerSecond' | 'concurrency' | 'keepBackupsMs', number, number]> = [
  ['messagesPerSecond', 0, MAX_RATE],
  ['concurrency', 1, MAX_CONCURRENCY],
  ['keepBackupsMs', 0, MAX_KEEP_MS],
];

function optionsOf(given: Partial<JobOptions>): JobOptions {
  const options = { ...DEFAULTS };
  for (const [name, least, most] of BOUNDS) {
    const value = given[name] ?? DEFAULTS[name];
    if (!Number.isInteger(value) || value < least || value > most) {
      throw new KmsError('INVALID_ARGUMENT', `${name}: ${least} to ${most}`);
    }
    options[name] = value;
  }
  if (given.defersCompaction === true) options.defersCompaction = true;
  return options;
}

/** What belongs into the change that gives a job an order. */
type Also = (job: Job) => Unit;

/** The jobs of a store: begins them, has them run here, and passes orders on to whoever runs them. */
export class Jobs {
  readonly #shop: Workshop;
  readonly #owner = randomUUID();
  readonly #running = new Map<string, { runner: Runner; end: Promise<Job> }>();
  #isClosing = false;

  constructor(shop: Workshop) {
    this.#shop = shop;
  }

  /** Durable, and under way, when it resolves. CONFLICT while the thread is busy with another. */
  async begin(kind: JobKind, threadId: string, given: Partial<JobOptions>): Promise<JobStatus> {
    const options = optionsOf(given);
    for (;;) {
      const thread = await this.#shop.directory.record(threadId);
      const written = await this.#begun(kind, thread, options);
      if (written === undefined) continue;
      this.#start(written, false);
      return this.#told(written.job);
    }
  }

  async #begun(kind: JobKind, thread: ThreadRecord, options: JobOptions): Promise<Written | undefined> {
    const { threadId } = thread;
    if (kind === 'rotate' && thread.keys === undefined) {
      throw new KmsError('CONFLICT', `thread ${threadId} has no key: encrypt-existing gives it one`);
    }
    const now = new Date().toISOString();
    const job: Job = {
      jobId: this.#shop.book.newId(),
      kind,
      threadId,
      state: 'running',
      phase: 'key',
      options,
      newKeyId: null,
      oldKeyIds: [],
      cursor: '',
      total: await countEntries(this.#shop, threadId),
      walked: 0,
      moved: 0,
      blockedBy: [],
      error: null,
      startedAt: now,
      updatedAt: now,
      finishedAt: null,
      runner: this.#owner,
      leaseUntil: 0,
    };
    return this.#shop.book.begin(job, { key: threadKey(threadId), value: thread.bytes });
  }

  forecast(kind: JobKind, threadId: string): Promise<Forecast> {
    return forecast(this.#shop, kind, threadId);
  }

  async status(jobId: string): Promise<JobStatus> {
    return this.#told((await this.#shop.book.read(jobId)).job);
  }

  async list({ limit = DEFAULT_LIMIT, ...from }: JobQuery): Promise<JobPage> {
    if (!Number.isInteger(limit) || limit < 1 || limit > MAX_LIMIT) {
      throw new KmsError('INVALID_ARGUMENT', `limit: 1 to ${MAX_LIMIT}`);
    }
    const { found, isFull } = await this.#shop.book.page({ ...from, limit: limit + 1 });
    const jobs = found.slice(0, limit).map(({ job }) => this.#told(job));
    return { jobs, next: isFull ? (jobs.at(-1) as JobStatus).jobId : null };
  }

  /** Resolves with the job once nobody runs it any more. */
  async wait(jobId: string): Promise<JobStatus> {
    for (;;) {
      await this.#running.get(jobId)?.end;
      const status = await this.status(jobId);
      if (status.state !== 'running' || this.#isClosing) return status;
      await delay(LOOK_AGAIN_MS);
    }
  }

  /** It stops after the batches under way, and can be resumed. */
  async pause(jobId: string): Promise<JobStatus> {
    return this.#order(jobId, ['running'], { state: 'paused' });
  }

  /** What is rewritten stays so, and the rest as it is: all of it can be read, and no key is retired that it needs. The next job finishes it. */
  async cancel(jobId: string): Promise<JobStatus> {
    return this.#order(
      jobId,
      ['running', 'paused', 'blocked', 'failed'],
      { state: 'cancelled', finishedAt: new Date().toISOString() },
      ({ threadId, kind, options, phase, oldKeyIds }) => {
        // What it has encrypted is in the store's bytes still, as it was before.
        const owed = kind === 'encrypt-existing' ? [this.#shop.compaction.owed()] : [];
        // All was rewritten, and when backups and keys go is written down.
        if (phase === 'end') return { expect: [], put: owed, remove: [] };
        // What it has rewritten stays restorable as long as that of a job which was done. No key goes with it, unless it has begun
        // to retire them: nothing is under them any more, some may be disabled, and a restore has to enable them again.
        const keyIds = phase === 'retire' ? oldKeyIds : [];
        const mark = this.#shop.backups.expiry(jobId, threadId, keyIds, options.keepBackupsMs);
        return { expect: [], put: [mark, ...owed], remove: [] };
      },
    );
  }

  async resume(jobId: string): Promise<JobStatus> {
    const written = await this.#change(jobId, ['paused', 'blocked', 'failed'], {
      state: 'running',
      error: null,
      blockedBy: [],
      runner: this.#owner,
      leaseUntil: 0,
    });
    this.#start(written, true);
    return this.#told(written.job);
  }

  restore(jobId: string): Promise<Restored> {
    return this.#shop.backups.restore(jobId);
  }

  /** Has jobs run here that a process which died has left. Their ids. */
  async adopt(): Promise<string[]> {
    const adopted: string[] = [];
    for await (const written of this.#shop.book.unended()) {
      const { job } = written;
      if (job.state !== 'running' || this.#running.has(job.jobId)) continue;
      if (this.#shop.store.isShared && job.leaseUntil > Date.now()) continue;
      const own = await this.#shop.book.change(written, { runner: this.#owner, leaseUntil: 0 });
      if (own === undefined) continue;
      this.#start(own, true);
      adopted.push(job.jobId);
    }
    return adopted;
  }

  /** Jobs stop after the batches under way; the next process goes on with them. */
  async close(): Promise<void> {
    this.#isClosing = true;
    await Promise.all([...this.#running.values()].map(({ end }) => end));
  }

  #start(written: Written, isResumed: boolean): void {
    const { jobId } = written.job;
    const before = this.#running.get(jobId)?.end ?? Promise.resolve();
    const runner = new Runner(this.#shop, written, this.#owner, isResumed, () => this.#isClosing);
    const end = before
      .then(() => runner.run())
      .finally(() => {
        if (this.#running.get(jobId)?.runner === runner) this.#running.delete(jobId);
      });
    this.#running.set(jobId, { runner, end });
  }

  async #order(jobId: string, from: readonly Job['state'][], change: Partial<Job>, also?: Also): Promise<JobStatus> {
    await this.#change(jobId, from, change, also);
    const running = this.#running.get(jobId);
    running?.runner.hurry();
    await running?.end;
    return this.status(jobId);
  }

  async #change(jobId: string, from: readonly Job['state'][], change: Partial<Job>, also?: Also): Promise<Written> {
    for (;;) {
      const written = await this.#shop.book.read(jobId);
      const { state } = written.job;
      if (!from.includes(state)) throw new KmsError('CONFLICT', `the job is ${state}`);
      const changed = await this.#shop.book.change(written, change, also?.(written.job));
      if (changed !== undefined) return changed;
    }
  }

  #told(job: Job): JobStatus {
    const { cursor: _cursor, runner: _runner, leaseUntil: _leaseUntil, ...status } = job;
    const runner = isOver(job) ? undefined : this.#running.get(job.jobId)?.runner;
    const perSecond = runner?.perSecond ?? 0;
    const left = Math.max(0, job.total - job.walked);
    const isCounting = perSecond > 0 && (job.phase === 'move' || job.phase === 'verify');
    const error = job.error ?? runner?.trouble ?? null;
    return { ...status, error, perSecond: Math.round(perSecond), secondsLeft: isCounting ? Math.ceil(left / perSecond) : null };
  }
}
