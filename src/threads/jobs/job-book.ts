import { randomBytes } from 'node:crypto';
import { KmsError } from '../../errors.js';
import { rangeOf } from '../names.js';
import type { ThreadStore, Unit } from '../thread-store.js';
import { isOver, type Job } from './job.js';

const PREFIX = 'job:entry:';
const JOB_ID = /^job_[0-9a-f]{32}$/;
const PAGE = 500;

export function newJobId(): string {
  return `job_${randomBytes(16).toString('hex')}`;
}

export function jobKey(jobId: string): string {
  return PREFIX + jobId;
}

/** Names the job that a thread is busy with: there is one at a time. */
export function busyKey(threadId: string): string {
  return `job:busy:${threadId}`;
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

/** The jobs in the store. A change expects the job as it was read, so that orders given meanwhile are seen and none is lost. */
export class JobBook {
  readonly #store: ThreadStore;

  constructor(store: ThreadStore) {
    this.#store = store;
  }

  /** Durable when it resolves. CONFLICT while the thread is busy with another. */
  async begin(job: Job): Promise<Written> {
    const bytes = bytesOf(job);
    const busy = busyKey(job.threadId);
    const put = [
      { key: jobKey(job.jobId), value: bytes },
      { key: busy, value: Buffer.from(job.jobId, 'latin1') },
    ];
    const [isBegun] = await this.#store.commit([{ expect: [{ key: busy, value: undefined }], put, remove: [] }]);
    if (isBegun) return { job, bytes };
    const [other] = await this.#store.get([busy]);
    throw new KmsError(
      'CONFLICT',
      `thread ${job.threadId} is busy with ${other ? Buffer.from(other).toString() : 'another job'}`,
    );
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

  async *all(): AsyncGenerator<Written> {
    const { from, to } = rangeOf(PREFIX);
    for (let at = from; ; ) {
      const page = await this.#store.range({ from: at, to, limit: PAGE });
      for (const { value } of page) yield { job: jobOf(value), bytes: value };
      const last = page.at(-1);
      if (last === undefined || page.length < PAGE) return;
      at = `${last.key} `;
    }
  }
}
