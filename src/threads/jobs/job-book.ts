import { randomBytes } from 'node:crypto';
import { KmsError } from '../../errors.js';
import { KEPT_JOBS_MS, KEPT_JOBS_PER_THREAD, MAX_PAGE_BYTES } from '../../limits.js';
import { expiryKey, rangeOf } from '../names.js';
import { beyond, isFull, pagesOf } from '../pages.js';
import type { Entry, Expectation, ThreadStore, Unit } from '../thread-store.js';
import { isOver, type Job } from './job.js';

const PREFIX = 'job:entry:';
const BUSY = 'job:busy:';
const JOB_ID = /^job_[0-9a-f]{32}$/;

export function jobKey(jobId: string): string {
  return PREFIX + jobId;
}

/** Names the job that a thread is busy with: there is one at a time. */
export function busyKey(threadId: string): string {
  return BUSY + threadId;
}

function bytesOf(job: Job): Uint8Array {
  return Buffer.from(JSON.stringify(job), 'utf8');
}

function jobOf(bytes: Uint8Array): Job {
  return JSON.parse(Buffer.from(bytes).toString('utf8')) as Job;
}

/** A job, and the bytes that a change of it expects to find. */
export interface Written {
  job: Job;
  bytes: Uint8Array;
}

export interface BookQuery {
  limit: number;
  /** The job after which to go on. */
  cursor?: string;
  /** The newest first. */
  reverse?: boolean;
}

/** The jobs in the store. A change expects the job as it was read, so that orders given meanwhile are seen and none is lost. */
export class JobBook {
  readonly #store: ThreadStore;
  #lastAt = 0;

  constructor(store: ThreadStore) {
    this.#store = store;
  }

  /** Later ones are greater: jobs stand in the order in which they began, but for those of before, whose ids were any. */
  newId(): string {
    this.#lastAt = Math.max(Date.now(), this.#lastAt + 1);
    return `job_${this.#lastAt.toString(16).padStart(12, '0')}${randomBytes(10).toString('hex')}`;
  }

  /**
   * Durable when it resolves; undefined if the thread is not as it was: one that is purged meanwhile gets no job. CONFLICT while it
   * is busy with another.
   */
  async begin(job: Job, thread: Expectation): Promise<Written | undefined> {
    const bytes = bytesOf(job);
    const busy = busyKey(job.threadId);
    const put = [
      { key: jobKey(job.jobId), value: bytes },
      { key: busy, value: Buffer.from(job.jobId, 'latin1') },
    ];
    const [isBegun] = await this.#store.commit([{ expect: [{ key: busy, value: undefined }, thread], put, remove: [] }]);
    if (isBegun) return { job, bytes };
    const [other] = await this.#store.get([busy]);
    if (other === undefined) return undefined;
    throw new KmsError('CONFLICT', `thread ${job.threadId} is busy with ${Buffer.from(other).toString()}`);
  }

  /** Throws NOT_FOUND. */
  async read(jobId: string): Promise<Written> {
    if (!JOB_ID.test(jobId)) throw new KmsError('INVALID_ARGUMENT', 'a job id is job_ and 32 hexadecimal digits');
    const [bytes] = await this.#store.get([jobKey(jobId)]);
    if (bytes === undefined) throw new KmsError('NOT_FOUND', `job ${jobId}`);
    return { job: jobOf(bytes), bytes };
  }

  /** Durable when it resolves, with `also` in the same change. undefined if the job, or what `also` expects, is not as it was. */
  async change({ job, bytes }: Written, change: Partial<Job>, also?: Unit): Promise<Written | undefined> {
    const changed: Job = { ...job, ...change, updatedAt: new Date().toISOString() };
    const after = bytesOf(changed);
    const key = jobKey(job.jobId);
    const busy = busyKey(job.threadId);
    // The thread may have been purged since, and another one of its name be busy with a job of its own.
    const [holder] = isOver(changed) ? await this.#store.get([busy]) : [];
    const isHeld = holder !== undefined && Buffer.from(holder).toString('latin1') === job.jobId;
    const unit = {
      expect: [{ key, value: bytes }, ...(also?.expect ?? [])],
      put: [{ key, value: after }, ...(also?.put ?? [])],
      remove: [...(isHeld ? [busy] : []), ...(also?.remove ?? [])],
    };
    const [isMade] = await this.#store.commit([unit]);
    return isMade ? { job: changed, bytes: after } : undefined;
  }

  /** With whether there may be more: a page ends with its bytes as well. */
  async page({ limit, cursor, reverse = false }: BookQuery): Promise<{ found: Written[]; isFull: boolean }> {
    if (cursor !== undefined && !JOB_ID.test(cursor)) throw new KmsError('INVALID_ARGUMENT', 'cursor');
    const all = { ...rangeOf(PREFIX), limit, bytes: MAX_PAGE_BYTES, reverse };
    const range = cursor === undefined ? all : { ...all, ...beyond(all, jobKey(cursor)) };
    const entries = await this.#store.range(range);
    return { found: entries.map(writtenOf), isFull: isFull(entries, range) };
  }

  /** Those that are not over: their threads are busy with them. */
  async *unended(): AsyncGenerator<Written> {
    for await (const page of pagesOf(this.#store, rangeOf(BUSY))) {
      const found = await this.#store.get(page.map(({ value }) => jobKey(Buffer.from(value).toString('latin1'))));
      for (const bytes of found) if (bytes !== undefined) yield { job: jobOf(bytes), bytes };
    }
  }

  /** All, the newest first, page by page. */
  async *pages(): AsyncGenerator<Written[]> {
    for await (const page of pagesOf(this.#store, { ...rangeOf(PREFIX), reverse: true })) yield page.map(writtenOf);
  }

  /**
   * Removes jobs that ended long ago: each in a change of its own that expects it as it was read, and without backups, which name
   * it for a restore. What a crash leaves of them, the next prunes.
   */
  async prune(now: number): Promise<void> {
    const seen = new Map<string, number>();
    for await (const page of this.pages()) {
      const over = page.filter(({ job }) => {
        if (!isOver(job)) return false;
        const newer = seen.get(job.threadId) ?? 0;
        seen.set(job.threadId, newer + 1);
        return newer >= KEPT_JOBS_PER_THREAD && now - Date.parse(job.finishedAt ?? job.updatedAt) > KEPT_JOBS_MS;
      });
      if (over.length > 0) await this.#store.commit(over.map(({ job, bytes }) => removal(job.jobId, bytes)));
    }
  }
}

function writtenOf({ value }: Entry): Written {
  return { job: jobOf(value), bytes: value };
}

function removal(jobId: string, bytes: Uint8Array): Unit {
  const key = jobKey(jobId);
  return {
    expect: [
      { key, value: bytes },
      { key: expiryKey(jobId), value: undefined },
    ],
    put: [],
    remove: [key],
  };
}
