import { ERROR_TABLE } from '../../errors.js';
import { Failure } from '../failure.js';
import { keyProgress } from '../key-progress.js';
import type { Output } from '../output.js';
import type { Answer, ThreadsAccess } from '../threads/access.js';
import { Interruption } from '../threads/interruption.js';
import { type JobFlags, Round, type Work } from '../threads/round.js';
import type { ThreadSettings } from '../threads/settings.js';
import { allThreads, jobPath, type ThreadForm, withThreads } from './threads.js';

const DAY_MS = 24 * 3_600_000;
const REWRAP_PAGE = 100;

interface ThreadWork extends Work {
  /** Of all threads, those it is for. */
  concerns(thread: ThreadForm): boolean;
  /** What its jobs have replaced in the store's bytes goes once at the end, before anybody is told that all is done. */
  isCompacted?: boolean;
}

export async function rotateThreadsCommand(
  threadIds: string[],
  flags: JobFlags,
  settings: ThreadSettings,
  output: Output,
): Promise<number> {
  return perform(threadIds, flags, settings, output, {
    begin: (access, thread_id) => access.ask('POST', '/admin/encryption/rotate-thread-dek', { thread_id, ...optionsOf(flags) }),
    concerns: ({ key_id: keyId }) => keyId !== null,
  });
}

export async function encryptExistingCommand(
  threadIds: string[],
  flags: JobFlags,
  settings: ThreadSettings,
  output: Output,
): Promise<number> {
  const keyless = new Set<string>();
  const ask = async (access: ThreadsAccess, threadId: string, options: object) => {
    const body = { thread_ids: [threadId], ...options };
    const { jobs } = (await access.ask('POST', '/admin/encryption/encrypt-existing', body)) as { jobs: [Answer] };
    const { error } = jobs[0] as { error?: { code: 'NOT_FOUND'; message: string } };
    if (error !== undefined) throw new Failure(error.code, error.message);
    return jobs[0];
  };
  return perform(threadIds, flags, settings, output, {
    async begin(access, threadId) {
      const forecast = await ask(access, threadId, { dry_run: true });
      if (flags.dryRun === true) return forecast;
      const { to_move: toMove, blocked_by: blockedBy } = forecast as unknown as { to_move: number; blocked_by: unknown[] };
      if (flags.all === true && toMove === 0 && blockedBy.length === 0 && !keyless.has(threadId)) return undefined;
      return ask(access, threadId, { ...optionsOf(flags), ...(isAwaited(flags) && { defer_compaction: true }) });
    },
    isCompacted: true,
    concerns: ({ thread_id: threadId, key_id: keyId }) => {
      if (keyId === null) keyless.add(threadId);
      return true;
    },
  });
}

/** Whether the command is there when its jobs end. */
function isAwaited({ dryRun, wait }: JobFlags): boolean {
  return dryRun !== true && wait !== false;
}

function optionsOf({ dryRun, messagesPerSecond, concurrency, keepBackups }: JobFlags): object {
  return {
    ...(dryRun === true && { dry_run: true }),
    ...(messagesPerSecond !== undefined && { messages_per_second: messagesPerSecond }),
    ...(concurrency !== undefined && { concurrency }),
    ...(keepBackups !== undefined && { keep_backups_ms: keepBackups * DAY_MS }),
  };
}

function refuseUnclear(threadIds: string[], all: boolean): void {
  if (threadIds.length > 0 === all) throw new Failure('USAGE', 'name threads, or give --all');
}

async function named(
  access: ThreadsAccess,
  threadIds: string[],
  all: boolean,
  concerns: (thread: ThreadForm) => boolean,
): Promise<string[]> {
  if (!all) return [...new Set(threadIds)];
  const ids: string[] = [];
  for await (const { threads } of allThreads(access)) ids.push(...threads.filter(concerns).map((thread) => thread.thread_id));
  return ids;
}

async function perform(
  threadIds: string[],
  flags: JobFlags,
  settings: ThreadSettings,
  output: Output,
  work: ThreadWork,
): Promise<number> {
  refuseUnclear(threadIds, flags.all === true);
  return withThreads(settings, 'work', output, async (access) => {
    if (flags.wait === false && access.isOffline) {
      throw new Failure('USAGE', '--no-wait is for a server: what this command begins ends with it');
    }
    const ids = await named(access, threadIds, flags.all === true, work.concerns);
    const interruption = new Interruption();
    try {
      const round = new Round(access, flags, work, interruption, output);
      await round.run(ids);
      // One that was interrupted is not done: the next start of the store does it.
      const isDue = work.isCompacted === true && isAwaited(flags) && !interruption.isThere;
      if (isDue) await access.ask('POST', '/admin/encryption/compact');
      return round.report();
    } finally {
      interruption.stop();
    }
  });
}

export async function resumeCommand(jobId: string, wait: boolean, settings: ThreadSettings, output: Output): Promise<number> {
  const begin = async (access: ThreadsAccess) => {
    const job = await access.ask('GET', jobPath(jobId));
    // One that a command or a server has left goes on as soon as its store is open: what is left is to wait.
    return job['state'] === 'running' ? job : access.ask('POST', `${jobPath(jobId)}/resume`);
  };
  return perform([jobId], { wait, parallel: 1 }, settings, output, { begin, concerns: () => true, isCompacted: true });
}

export async function rewrapDeksCommand(
  threadIds: string[],
  { all = false, parallel }: JobFlags,
  settings: ThreadSettings,
  output: Output,
): Promise<number> {
  refuseUnclear(threadIds, all);
  return withThreads(settings, 'work', output, async (access) => {
    const ids = await named(access, threadIds, all, ({ key_id: keyId }) => keyId !== null);
    const progress = keyProgress('rewrapping', ids.length, output.json);
    const counts = { rewrapped: 0, skipped: 0, failed: 0 };
    const failures: Array<{ thread_id: string; error: { code: 'NOT_FOUND'; message: string } }> = [];
    try {
      for (let at = 0; at < ids.length; at += REWRAP_PAGE) {
        const page = ids.slice(at, at + REWRAP_PAGE);
        const body = { thread_ids: page, ...(parallel !== undefined && { parallelism: parallel }) };
        const answer = await access.ask('POST', '/admin/encryption/rewrap-deks', body);
        for (const name of ['rewrapped', 'skipped', 'failed'] as const) counts[name] += answer[name] as number;
        failures.push(...(answer['failures'] as typeof failures));
        for (const _ of page) progress.one();
      }
    } finally {
      progress.stop();
    }
    const { rewrapped, skipped } = counts;
    output.result(
      { ...counts, failures },
      `the keys of ${rewrapped} ${rewrapped === 1 ? 'thread' : 'threads'} are under the active KEK`,
    );
    if (skipped > 0) output.note(`${skipped} ${skipped === 1 ? 'thread has' : 'threads have'} no key`);
    for (const { thread_id: threadId, error } of failures) output.note(`${threadId}: ${error.message}`);
    return failures[0] === undefined ? 0 : ERROR_TABLE[failures[0].error.code].exit;
  });
}
