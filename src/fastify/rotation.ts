import { setTimeout as delay } from 'node:timers/promises';
import type { FastifyReply } from 'fastify';
import type { z } from 'zod';
import { KmsError } from '../errors.js';
import type { JobOptions, JobStatus } from '../threads/jobs/job.js';
import type { Threads } from '../threads/threads.js';
import { wireForm } from './answers.js';
import type { RotateBody } from './members.js';
import { refuse } from './refusals.js';

const LOOK_AGAIN_MS = 20;
/** How long the key is waited for: longer than a key service that answers at all takes. */
const KEY_TIMEOUT_MS = 30_000;

interface JobMembers {
  messages_per_second?: number | undefined;
  concurrency?: number | undefined;
  keep_backups_ms?: number | undefined;
  defer_compaction?: boolean | undefined;
}

export function jobOptionsOf(members: JobMembers): Partial<JobOptions> {
  const { messages_per_second: messagesPerSecond, concurrency, keep_backups_ms: keepBackupsMs } = members;
  return {
    ...(messagesPerSecond !== undefined && { messagesPerSecond }),
    ...(concurrency !== undefined && { concurrency }),
    ...(keepBackupsMs !== undefined && { keepBackupsMs }),
    ...(members.defer_compaction === true && { defersCompaction: true }),
  };
}

/** Answers when the thread has its new key; the messages follow in the background. */
export async function beginRotation(
  threads: Threads,
  body: z.infer<typeof RotateBody>,
  reply: FastifyReply,
): Promise<FastifyReply> {
  if (body.dry_run === true) {
    return reply.send({ status: 'ok', ...(wireForm(await threads.forecast('rotate', body.thread_id)) as object) });
  }
  const { jobId } = await threads.rotateThreadDek(body.thread_id, jobOptionsOf(body));
  const job = await keyMade(threads, jobId);
  if (job.newKeyId !== null) return reply.send({ status: 'ok', new_key: job.newKeyId, job_id: jobId });
  return refuse(reply, keylessness(job), { job_id: jobId });
}

async function keyMade(threads: Threads, jobId: string): Promise<JobStatus> {
  const until = performance.now() + KEY_TIMEOUT_MS;
  for (;;) {
    const job = await threads.job(jobId);
    // What stands in its way may last: the job tries again by itself, and whoever asked for it is told.
    if (job.newKeyId !== null || job.error !== null || job.state !== 'running' || performance.now() > until) return job;
    await delay(LOOK_AGAIN_MS);
  }
}

/** A running job goes on by itself, any other from where it is when it is resumed. */
function keylessness({ state, error }: JobStatus): KmsError {
  if (state === 'failed' || (state === 'running' && error !== null)) return new KmsError('STORE_UNAVAILABLE');
  return state === 'running' ? new KmsError('DEADLINE_EXCEEDED') : new KmsError('CONFLICT', `the job is ${state}`);
}
