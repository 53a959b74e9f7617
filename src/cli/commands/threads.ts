import { Failure } from '../failure.js';
import { columns, type Output, table } from '../output.js';
import { openThreadsAccess, type ThreadsAccess } from '../threads/access.js';
import type { JobForm } from '../threads/job-progress.js';
import type { Purpose } from '../threads/service.js';
import type { ThreadSettings } from '../threads/settings.js';

/** Opens the threads, works with them, and closes them whatever comes of it. */
export async function withThreads<T>(
  settings: ThreadSettings,
  purpose: Purpose,
  output: Output,
  work: (access: ThreadsAccess) => Promise<T>,
): Promise<T> {
  const access = await openThreadsAccess(settings, purpose, output);
  try {
    return await work(access);
  } finally {
    await access.close();
  }
}

export interface ThreadForm {
  thread_id: string;
  title: string | null;
  created_at: string;
  key_id: string | null;
}

const PAGE = 1_000;

export async function* allThreads(access: ThreadsAccess): AsyncGenerator<{ threads: ThreadForm[]; damaged: string[] }> {
  for (let cursor: string | null = null; ; ) {
    const from: string = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`;
    const page = await access.ask('GET', `/admin/threads?limit=${PAGE}${from}`);
    const { threads, damaged, next } = page as unknown as { threads: ThreadForm[]; damaged: string[]; next: string | null };
    yield { threads, damaged };
    if (next === null) return;
    cursor = next;
  }
}

export async function listThreadsCommand(settings: ThreadSettings, output: Output): Promise<void> {
  await withThreads(settings, 'orders', output, async (access) => {
    const threads: ThreadForm[] = [];
    const damaged: string[] = [];
    for await (const page of allThreads(access)) {
      threads.push(...page.threads);
      damaged.push(...page.damaged);
    }
    const rows = threads.map(({ thread_id: id, key_id: key, created_at: made, title }) => [id, key ?? '-', made, visible(title)]);
    output.result({ threads, damaged }, table(rows));
    for (const id of damaged) output.note(`the record of thread ${id} is damaged`);
  });
}

/** A title is anybody's text: nothing in it moves the cursor of a terminal. */
function visible(title: string | null): string {
  return (title ?? '').replace(/\p{C}/gu, '?');
}

export interface JobListFlags {
  limit?: number;
  cursor?: string;
  reverse?: boolean;
}

export async function jobsCommand(
  jobId: string | undefined,
  { limit, cursor, reverse }: JobListFlags,
  settings: ThreadSettings,
  output: Output,
): Promise<void> {
  await withThreads(settings, 'orders', output, async (access) => {
    if (jobId !== undefined) {
      const job = (await access.ask('GET', jobPath(jobId))) as unknown as JobForm;
      reportJob(job, output);
      if (job.state === 'running' && access.isOffline) output.note(`no process runs it; ${resumption(jobId)}`);
      return;
    }
    const query = new URLSearchParams({
      ...(limit !== undefined && { limit: String(limit) }),
      ...(cursor !== undefined && { cursor }),
      ...(reverse === true && { reverse: 'true' }),
    });
    const { jobs, next } = (await access.ask('GET', `/admin/jobs?${query}`)) as unknown as JobsPage;
    const rows = jobs.map((job) => [
      job.job_id,
      job.state,
      job.kind,
      `${job.moved} of ${job.total}`,
      job.started_at,
      job.thread_id,
    ]);
    output.result({ jobs, next }, table(rows));
    if (next !== null) output.note(`there are more: --cursor ${next} goes on`);
  });
}

interface JobsPage {
  jobs: JobForm[];
  /** null on the last page. */
  next: string | null;
}

export function jobPath(jobId: string): string {
  return `/admin/jobs/${encodeURIComponent(jobId)}`;
}

export function reportJob(job: JobForm, output: Output): void {
  const shown = Object.entries(job).filter(([name]) => name !== 'blocked_by' && name !== 'options');
  const rows = shown.map(([name, value]): [string, string] => [name, value === null ? '-' : String(value)]);
  output.result(job, columns(rows));
  explainJob(job, output);
}

/** What people need beside the job's members. */
export function explainJob({ job_id: id, state, blocked_by: blockedBy, error }: JobForm, output: Output): void {
  for (const { message_id: message, reason } of blockedBy) output.note(`message ${message} holds ${id} up: ${reason}`);
  if (error !== null) output.note(`${id} stopped: ${error}`);
  if (state === 'paused' || state === 'failed' || state === 'blocked') {
    output.note(resumption(id));
  }
}

export function resumption(jobId: string): string {
  return `\`progressdb-kms threads resume ${jobId}\` goes on with it`;
}

export async function orderCommand(
  order: 'pause' | 'cancel',
  jobId: string,
  settings: ThreadSettings,
  output: Output,
): Promise<void> {
  await withThreads(settings, 'orders', output, async (access) => {
    const job = (await access.ask('POST', `${jobPath(jobId)}/${order}`)) as unknown as JobForm;
    output.result(job, `${jobId} is ${job.state}, with ${job.moved} of ${job.total} messages moved`);
  });
}

export async function restoreBackupCommand(jobId: string, settings: ThreadSettings, output: Output): Promise<void> {
  await withThreads(settings, 'work', output, async (access) => {
    const answer = await access.ask('POST', `${jobPath(jobId)}/restore-backup`);
    const { restored, changed } = answer as { restored: number; changed: number };
    output.result(
      { job_id: jobId, restored, changed },
      `${restored} put back; ${changed} were changed since, and stay as they are`,
    );
  });
}

export async function purgeCommand(threadId: string, isMeant: boolean, settings: ThreadSettings, output: Output): Promise<void> {
  if (!isMeant) {
    throw new Failure(
      'USAGE',
      `purging ${threadId} destroys its keys and all its messages for ever`,
      'add --yes if that is meant',
    );
  }
  await withThreads(settings, 'work', output, async (access) => {
    await access.ask('DELETE', `/threads/${encodeURIComponent(threadId)}`);
    output.result({ thread_id: threadId, status: 'ok' }, `${threadId} is gone, and its bytes are out of the store`);
  });
}
