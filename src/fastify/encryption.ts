import type { z } from 'zod';
import { asKmsError, errorTold } from '../errors.js';
import type { Forecast, JobStatus } from '../threads/jobs/job.js';
import type { Threads } from '../threads/threads.js';
import { wireForm } from './answers.js';
import { type EncryptBody, MAX_JOBS_AT_ONCE } from './members.js';
import { jobOptionsOf } from './rotation.js';

interface Begun {
  status: 'ok';
  /** One for each thread, or what a job would do, or why there is none. */
  jobs: object[];
  /** Where to go on: as many threads as there may be jobs were begun with. */
  next: string | null;
}

/** Begins a job for each of the threads named; of all threads, for those that have something to encrypt. */
export async function beginEncryption(threads: Threads, body: z.infer<typeof EncryptBody>): Promise<Begun> {
  const begin = async (threadId: string): Promise<Forecast | JobStatus> =>
    body.dry_run === true
      ? threads.forecast('encrypt-existing', threadId)
      : threads.encryptExisting(threadId, jobOptionsOf(body));
  const told = (threadId: string) =>
    begin(threadId).then(
      (done) => ('jobId' in done ? { thread_id: threadId, job_id: done.jobId } : (wireForm(done) as object)),
      (error) => ({ thread_id: threadId, error: errorTold(asKmsError(error)) }),
    );
  const jobs: object[] = [];
  if (body.thread_ids !== undefined) {
    for (const threadId of new Set(body.thread_ids)) jobs.push(await told(threadId));
    return { status: 'ok', jobs, next: null };
  }
  for (let cursor = body.cursor; ; ) {
    const page = await threads.listThreads({ limit: MAX_JOBS_AT_ONCE, ...(cursor !== undefined && { cursor }) });
    for (const { threadId, keyId } of page.threads) {
      cursor = threadId;
      if (!(await isNeeded(threads, threadId, keyId))) continue;
      jobs.push(await told(threadId));
      if (jobs.length === MAX_JOBS_AT_ONCE) return { status: 'ok', jobs, next: threadId };
    }
    if (page.next === null) return { status: 'ok', jobs, next: null };
    cursor = page.next;
  }
}

async function isNeeded(threads: Threads, threadId: string, keyId: string | null): Promise<boolean> {
  if (keyId === null) return true;
  const { toMove, blockedBy } = await threads.forecast('encrypt-existing', threadId);
  return toMove > 0 || blockedBy.length > 0;
}
