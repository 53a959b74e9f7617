import { setTimeout as delay } from 'node:timers/promises';
import { ERROR_TABLE } from '../../errors.js';
import { Failure, failureOf } from '../failure.js';
import { keyProgress } from '../key-progress.js';
import { type Output, table } from '../output.js';
import type { Answer, ThreadsAccess } from '../threads/access.js';
import { type JobForm, type JobProgress, jobProgress } from '../threads/job-progress.js';
import type { ThreadSettings } from '../threads/settings.js';
import { allThreads, explainJob, jobPath, type ThreadForm, withThreads } from './threads.js';

export interface JobFlags {
  all?: boolean;
  parallel?: number;
  messagesPerSecond?: number;
  concurrency?: number;
  keepBackups?: number;
  dryRun?: boolean;
  wait?: boolean;
}

/** How often is asked how far a job is: a bar that moves, and no load. */
const POLL_MS = 200;
const DEFAULT_PARALLEL = 4;
const DAY_MS = 24 * 3_600_000;
const REWRAP_PAGE = 100;

/** What a command does to each of its threads: `begin` gives the job, or what it would do, or nothing where there is nothing to do. */
interface Work {
  begin(access: ThreadsAccess, threadId: string): Promise<Answer | undefined>;
  /** Of all threads, those it is for. */
  concerns(thread: ThreadForm): boolean;
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
      // Each job ends with the store written anew: none is begun for nothing.
      const forecast = await ask(access, threadId, { dry_run: true });
      if (flags.dryRun === true) return forecast;
      const { to_move: toMove, blocked_by: blockedBy } = forecast as unknown as { to_move: number; blocked_by: unknown[] };
      if (flags.all === true && toMove === 0 && blockedBy.length === 0 && !keyless.has(threadId)) return undefined;
      return ask(access, threadId, optionsOf(flags));
    },
    concerns: ({ thread_id: threadId, key_id: keyId }) => {
      if (keyId === null) keyless.add(threadId);
      return true;
    },
  });
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
  work: Work,
): Promise<number> {
  refuseUnclear(threadIds, flags.all === true);
  return withThreads(settings, 'work', output, async (access) => {
    if (flags.wait === false && access.isOffline) {
      throw new Failure('USAGE', '--no-wait is for a server: what this command begins ends with it');
    }
    const ids = await named(access, threadIds, flags.all === true, work.concerns);
    const round = new Round(access, flags, work, output);
    await round.run(ids);
    return round.report();
  });
}

/** One command's work on many threads, some at once. */
class Round {
  readonly #access: ThreadsAccess;
  readonly #flags: JobFlags;
  readonly #work: Work;
  readonly #output: Output;
  readonly #progress: JobProgress;
  readonly #running = new Map<string, JobForm>();
  /** By the place of the thread among those that were named: which ends first is chance. */
  readonly #done: Answer[] = [];
  readonly #failures: Array<{ threadId: string; failure: Failure }> = [];
  #ended = 0;

  constructor(access: ThreadsAccess, flags: JobFlags, work: Work, output: Output) {
    this.#access = access;
    this.#flags = flags;
    this.#work = work;
    this.#output = output;
    this.#progress = jobProgress(output.json);
  }

  async run(ids: readonly string[]): Promise<void> {
    const left = ids.entries();
    const worker = async () => {
      for (const [place, threadId] of left) {
        await this.#thread(place, threadId, ids.length);
        this.#ended += 1;
      }
    };
    try {
      await Promise.all(Array.from({ length: this.#flags.parallel ?? DEFAULT_PARALLEL }, worker));
    } finally {
      this.#progress.stop();
    }
  }

  async #thread(place: number, threadId: string, threads: number): Promise<void> {
    try {
      const begun = await this.#work.begin(this.#access, threadId);
      if (begun === undefined) return;
      const { job_id: jobId } = begun as { job_id?: string };
      if (jobId === undefined) this.#done[place] = begun;
      else if (this.#flags.wait === false) this.#done[place] = await this.#access.ask('GET', jobPath(jobId));
      else this.#done[place] = await this.#end(jobId, threads);
    } catch (error) {
      this.#failures[place] = { threadId, failure: failureOf(error) };
    } finally {
      this.#running.delete(threadId);
    }
  }

  async #end(jobId: string, threads: number): Promise<Answer> {
    for (;;) {
      const answer = await this.#access.ask('GET', jobPath(jobId));
      const job = answer as unknown as JobForm;
      if (job.state !== 'running') return answer;
      this.#running.set(job.thread_id, job);
      this.#progress.show(this.#running.values(), this.#ended, threads);
      await delay(POLL_MS);
    }
  }

  /** The exit code: of the first that failed, or did not end. */
  report(): number {
    // What was not set is left out.
    const done = this.#done.filter(() => true);
    const failures = this.#failures.filter(() => true);
    const [first] = failures;
    if (first !== undefined && failures.length === 1 && done.length === 0) throw first.failure;
    const isDry = this.#flags.dryRun === true;
    const told = failures.map(({ threadId, failure: { code, message } }) => ({ thread_id: threadId, error: { code, message } }));
    if (done.length === 0 && failures.length === 0) this.#output.note('no thread has anything to move');
    const rows = done.map((one) => (isDry ? forecastRow(one) : jobRow(one as unknown as JobForm)));
    this.#output.result({ [isDry ? 'forecasts' : 'jobs']: done, failures: told }, table(rows));
    if (!isDry) for (const job of done) explainJob(job as unknown as JobForm, this.#output);
    for (const { threadId, failure } of failures) this.#output.note(`${threadId}: ${failure.message}`);
    if (first !== undefined) return first.failure.exit;
    return Math.max(0, ...done.map((one) => exitOf(one, this.#flags.wait === false)));
  }
}

function forecastRow(answer: Answer): string[] {
  const { thread_id: threadId, to_move: toMove, total } = answer;
  const blockedBy = answer['blocked_by'] as unknown[];
  const blocked = blockedBy.length === 0 ? 'all can be read' : `${blockedBy.length} cannot be read`;
  return [String(threadId), `${toMove} of ${total} messages to move, ${blocked}`];
}

function jobRow({ thread_id: threadId, job_id: jobId, state, moved, new_key_id: keyId }: JobForm): string[] {
  return [threadId, jobId, state, `${moved} moved`, keyId ?? '-'];
}

/** A script must not take a rotation that hangs for one that is complete. */
function exitOf(answer: Answer, mayRun: boolean): number {
  const { state, blocked_by: blockedBy } = answer as { state?: string; blocked_by: unknown[] };
  if (state === undefined) return blockedBy.length > 0 ? ERROR_TABLE.CONFLICT.exit : 0;
  if (state === 'done' || (mayRun && state === 'running')) return 0;
  return state === 'failed' ? ERROR_TABLE.STORE_UNAVAILABLE.exit : ERROR_TABLE.CONFLICT.exit;
}

export async function resumeCommand(jobId: string, wait: boolean, settings: ThreadSettings, output: Output): Promise<number> {
  const begin = async (access: ThreadsAccess) => {
    const job = await access.ask('GET', jobPath(jobId));
    // One that a command or a server has left goes on as soon as its store is open: what is left is to wait.
    return job['state'] === 'running' ? job : access.ask('POST', `${jobPath(jobId)}/resume`);
  };
  return perform([jobId], { wait, parallel: 1 }, settings, output, { begin, concerns: () => true });
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
    let rewrapped = 0;
    const failures: Array<{ thread_id: string; error: { code: 'NOT_FOUND'; message: string } }> = [];
    try {
      for (let at = 0; at < ids.length; at += REWRAP_PAGE) {
        const page = ids.slice(at, at + REWRAP_PAGE);
        const body = { thread_ids: page, ...(parallel !== undefined && { parallelism: parallel }) };
        const answer = await access.ask('POST', '/admin/encryption/rewrap-deks', body);
        rewrapped += answer['rewrapped'] as number;
        failures.push(...(answer['failures'] as typeof failures));
        for (const _ of page) progress.one();
      }
    } finally {
      progress.stop();
    }
    output.result(
      { rewrapped, failures },
      `the keys of ${rewrapped} ${rewrapped === 1 ? 'thread' : 'threads'} are under the active KEK`,
    );
    for (const { thread_id: threadId, error } of failures) output.note(`${threadId}: ${error.message}`);
    return failures[0] === undefined ? 0 : ERROR_TABLE[failures[0].error.code].exit;
  });
}
