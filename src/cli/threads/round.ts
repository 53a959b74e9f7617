import { setTimeout as delay } from 'node:timers/promises';
import { ERROR_TABLE } from '../../errors.js';
import { explainJob, jobPath, resumption } from '../commands/threads.js';
import { type Failure, failureOf } from '../failure.js';
import { type Output, table } from '../output.js';
import type { Answer, ThreadsAccess } from './access.js';
import type { Interruption } from './interruption.js';
import { type JobForm, type JobProgress, jobProgress } from './job-progress.js';

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

/** What a command does to each of its threads. */
export interface Work {
  /** The job, or what it would do, or nothing where there is nothing to do. */
  begin(access: ThreadsAccess, threadId: string): Promise<Answer | undefined>;
}

/** One command's work on many threads, some at once, until it is done or interrupted. */
export class Round {
  readonly #access: ThreadsAccess;
  readonly #flags: JobFlags;
  readonly #work: Work;
  readonly #interruption: Interruption;
  readonly #output: Output;
  readonly #progress: JobProgress;
  readonly #running = new Map<string, JobForm>();
  /** By the place of the thread among those that were named: which ends first is chance. */
  readonly #done: Answer[] = [];
  readonly #failures: Array<{ threadId: string; failure: Failure }> = [];
  #ended = 0;
  /** Because of the interruption. */
  #unbegun = 0;

  constructor(access: ThreadsAccess, flags: JobFlags, work: Work, interruption: Interruption, output: Output) {
    this.#access = access;
    this.#flags = flags;
    this.#work = work;
    this.#interruption = interruption;
    this.#output = output;
    this.#progress = jobProgress(output.json);
  }

  async run(ids: readonly string[]): Promise<void> {
    const left = ids.entries();
    const worker = async () => {
      for (const [place, threadId] of left) {
        if (this.#interruption.isThere) this.#unbegun += 1;
        else await this.#thread(place, threadId, ids.length);
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
      if (job.state !== 'running' || this.#interruption.isThere) return answer;
      this.#running.set(job.thread_id, job);
      this.#progress.show(this.#running.values(), this.#ended, threads);
      await this.#interruption.unlessThere((signal) => delay(POLL_MS, undefined, { signal }));
    }
  }

  /** The exit code: of the first that failed, or did not end. */
  report(): number {
    // What was not set is left out.
    const done = this.#done.filter(() => true);
    const failures = this.#failures.filter(() => true);
    const [first] = failures;
    const isInterrupted = this.#interruption.isThere;
    if (first !== undefined && failures.length === 1 && done.length === 0 && !isInterrupted) throw first.failure;
    const isDry = this.#flags.dryRun === true;
    const told = failures.map(({ threadId, failure: { code, message } }) => ({ thread_id: threadId, error: { code, message } }));
    if (done.length === 0 && failures.length === 0 && !isInterrupted) this.#output.note('no thread has anything to move');
    const rows = done.map((one) => (isDry ? forecastRow(one) : jobRow(one as unknown as JobForm)));
    const interrupted = isInterrupted ? { interrupted: true, unbegun: this.#unbegun } : {};
    this.#output.result({ [isDry ? 'forecasts' : 'jobs']: done, failures: told, ...interrupted }, table(rows));
    if (!isDry) for (const job of done) explainJob(job as unknown as JobForm, this.#output);
    for (const { threadId, failure } of failures) this.#output.note(`${threadId}: ${failure.message}`);
    if (isInterrupted) {
      this.#explainInterruption(done as unknown as JobForm[]);
      return this.#interruption.exit;
    }
    if (first !== undefined) return first.failure.exit;
    return Math.max(0, ...done.map((one) => exitOf(one, this.#flags.wait === false)));
  }

  /** Whether what was begun goes on, and how. */
  #explainInterruption(jobs: readonly JobForm[]): void {
    for (const { job_id: id, state } of jobs) {
      if (state !== 'running') continue;
      const { isOffline } = this.#access;
      this.#output.note(isOffline ? `${id} stops here; ${resumption(id)}` : `${id} goes on in the server; ${waiting(id)}`);
    }
    if (this.#unbegun === 0) return;
    this.#output.note(`${this.#unbegun} ${this.#unbegun === 1 ? 'thread was' : 'threads were'} not begun with`);
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

function waiting(jobId: string): string {
  return `\`progressdb-kms threads resume ${jobId}\` waits for it, \`threads pause ${jobId}\` stops it`;
}
