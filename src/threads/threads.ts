import { setTimeout as delay } from 'node:timers/promises';
import { asKmsError } from '../errors.js';
import { MAX_JOB_PAGES } from '../limits.js';
import type { Provider } from '../provider.js';
import { Bodies } from './bodies.js';
import { BodyCipher } from './body-cipher.js';
import { Clock } from './clock.js';
import { Compaction } from './compaction.js';
import { FieldPolicy } from './field-policy.js';
import { Backups, type Restored } from './jobs/backups.js';
import { Entries } from './jobs/entries.js';
import type { Forecast, JobKind, JobOptions, JobPage, JobQuery, JobStatus } from './jobs/job.js';
import { JobBook } from './jobs/job-book.js';
import { Jobs } from './jobs/jobs.js';
import { Mover } from './jobs/mover.js';
import { Tables } from './jobs/tables.js';
import { KeyProvision, type Orphans, type Unreaped } from './key-provision.js';
import { MessageIndex } from './message-index.js';
import { Messages } from './messages.js';
import { Purge } from './purge.js';
import { Rewrap, type Rewrapped } from './rewrap.js';
import type {
  Message,
  MessagePage,
  MessageQuery,
  NewMessage,
  NewThread,
  Thread,
  ThreadPage,
  ThreadQuery,
  VersionPage,
} from './thread.js';
import { ThreadDirectory } from './thread-directory.js';
import type { ThreadStore } from './thread-store.js';

export interface ThreadsOptions {
  /** Embedded or a daemon's client. Without one, threads are made without encryption, and those with a key are not read. */
  kms?: Provider;
  store: ThreadStore;
  /** What of each body is encrypted: `['body']` unless told; see `FieldPolicy`. May change: messages know how they were written. */
  fields?: readonly string[];
  /** Milliseconds since 1970. */
  now?: () => number;
  /** How jobs rest, by their rate and while a service is away; so many milliseconds unless told. */
  wait?: (ms: number) => Promise<void>;
}

/** What a start found that an earlier process had left. */
export interface Recovered {
  /** Threads whose purge was gone on with, and is complete. */
  purged: string[];
  /** Those whose keys could not be destroyed, and why: nobody reads them, and the next start tries again. */
  unpurged: Array<{ threadId: string; reason: string }>;
  /** Threads for which there may be a key that nobody refers to, while the key service could not be asked. */
  unreaped: Unreaped;
  /** Jobs whose backups are over their time, and whose old keys could not be destroyed. */
  unswept: Array<{ jobId: string; reason: string }>;
  /** Why the store could not be compacted, where that is owed: what was removed is in its bytes still. */
  uncompacted: string | null;
  /** Jobs that are gone on with, in the background. */
  jobs: string[];
  orphans: Orphans;
}

/**
 * Opens the threads in a store, and ends what a crash has interrupted. What cannot be ended now, because the key service is away,
 * is told in `recovered`, and stays for the next start or call of `recover`. The store and the provider stay the caller's, to
 * close after the threads. Throws INVALID_ARGUMENT for a field path that is none, and what the store throws.
 */
export async function openThreads(options: ThreadsOptions): Promise<Threads> {
  const threads = new Threads(options);
  await threads.recover();
  return threads;
}

/** Every method rejects with a `KmsError`: NOT_FOUND for a thread or message that is not there, and what the key service says. */
export class Threads {
  /** What the last `recover` reported; undefined before one. */
  recovered: Recovered | undefined;
  readonly #hasService: boolean;
  readonly #directory: ThreadDirectory;
  readonly #messages: Messages;
  readonly #purge: Purge;
  readonly #provision: KeyProvision;
  readonly #backups: Backups;
  readonly #book: JobBook;
  readonly #compaction: Compaction;
  readonly #now: () => number;
  readonly #rewrap: Rewrap;
  readonly #jobs: Jobs;

  constructor({ kms, store, fields = ['body'], now = Date.now, wait = delay }: ThreadsOptions) {
    this.#hasService = kms !== undefined;
    const clock = new Clock(now);
    this.#provision = new KeyProvision(kms, store, now);
    this.#directory = new ThreadDirectory(store, this.#provision, clock);
    const cipher = new BodyCipher(kms);
    const bodies = new Bodies(cipher);
    const policy = new FieldPolicy(fields);
    const index = new MessageIndex(store, this.#directory);
    this.#messages = new Messages({ store, directory: this.#directory, index, bodies, policy, clock });
    this.#now = now;
    this.#compaction = new Compaction(store);
    this.#book = new JobBook(store);
    this.#purge = new Purge(kms, store, this.#compaction);
    this.#rewrap = new Rewrap(kms, store, this.#directory);
    this.#backups = new Backups(kms, store, now);
    this.#jobs = new Jobs({
      store,
      directory: this.#directory,
      provision: this.#provision,
      entries: new Entries(store, index),
      mover: new Mover(bodies, cipher, policy),
      backups: this.#backups,
      book: this.#book,
      compaction: this.#compaction,
      tables: new Tables(MAX_JOB_PAGES),
      wait,
    });
  }

  /**
   * Ends what a process that died has left: purges, keys that no thread names, backups over their time, a compaction, jobs. May be
   * called again, for what could not be ended.
   */
  async recover(): Promise<Recovered> {
    const { purged, unpurged } = await this.#purge.resume();
    const unreaped = await this.#provision.reap();
    const { left } = await this.#backups.sweep();
    const unswept = left.map(({ jobId, error }) => ({ jobId, reason: error.message }));
    await this.#book.prune(this.#now());
    const uncompacted = await this.#compaction.settle().then(
      () => null,
      (error) => asKmsError(error).message,
    );
    // Without its key service a job would fail, and wait for somebody to resume it.
    const jobs = this.#hasService ? await this.#jobs.adopt() : [];
    const orphans = structuredClone(this.#provision.orphans);
    this.recovered = { purged, unpurged, unreaped, unswept, uncompacted, jobs, orphans };
    return this.recovered;
  }

  /** With a key of its own, durable when it resolves. CONFLICT if it is there already. */
  createThread(thread: NewThread = {}): Promise<Thread> {
    return this.#directory.create(thread, false);
  }

  /** Makes the thread unless it is there: with one key, however many ask at once. */
  ensureThread(threadId: string): Promise<Thread> {
    return this.#directory.create({ threadId }, true);
  }

  thread(threadId: string): Promise<Thread | undefined> {
    return this.#directory.find(threadId);
  }

  listThreads(query: ThreadQuery = {}): Promise<ThreadPage> {
    return this.#directory.page(query);
  }

  /** Encrypted as the field policy says, and durable, when it resolves; if the key service cannot be asked, nothing is stored. */
  append(threadId: string, message: NewMessage): Promise<Message> {
    return this.#messages.append(threadId, message);
  }

  /** undefined if there is none. A message that cannot be read says so in its `error`. */
  read(threadId: string, messageId: string): Promise<Message | undefined> {
    return this.#messages.read(threadId, messageId);
  }

  /** In order, page by page. A message that cannot be read says so in its `error`, and the others are there. */
  list(threadId: string, query: MessageQuery = {}): Promise<MessagePage> {
    return this.#messages.list(threadId, query);
  }

  edit(threadId: string, messageId: string, body: unknown): Promise<Message> {
    return this.#messages.edit(threadId, messageId, body);
  }

  /** What a message was before each edit, the oldest first unless told. */
  versions(threadId: string, messageId: string, query: MessageQuery = {}): Promise<VersionPage> {
    return this.#messages.versions(threadId, messageId, query);
  }

  delete(threadId: string, messageId: string): Promise<void> {
    return this.#messages.delete(threadId, messageId);
  }

  /**
   * Gives the thread a new key, and moves all of its messages to it, in the background, while they are read and written; then the
   * old key is disabled, and destroyed once the backups go. Resolves as soon as the job is durable; a start of whatever process
   * has the store goes on with it after a crash. CONFLICT while the thread is busy with another job.
   */
  rotateThreadDek(threadId: string, options: Partial<JobOptions> = {}): Promise<JobStatus> {
    return this.#jobs.begin('rotate', threadId, options);
  }

  /**
   * Encrypts what a thread has in plaintext, as the field policy says, and gives it a key if it has none; what was encrypted by
   * another policy is by this one afterwards. As `rotateThreadDek` otherwise; ends with a compaction of the store.
   */
  encryptExisting(threadId: string, options: Partial<JobOptions> = {}): Promise<JobStatus> {
    return this.#jobs.begin('encrypt-existing', threadId, options);
  }

  /** What such a job would do: opens all that it would rewrite, and changes nothing. */
  forecast(kind: JobKind, threadId: string): Promise<Forecast> {
    return this.#jobs.forecast(kind, threadId);
  }

  /** Those that are not over, and of the others the newest: see `sweepBackups`. */
  jobs(query: JobQuery = {}): Promise<JobPage> {
    return this.#jobs.list(query);
  }

  job(jobId: string): Promise<JobStatus> {
    return this.#jobs.status(jobId);
  }

  /** Resolves with the job once it does not run any more; one that waits for the key service or the store still runs. */
  waitForJob(jobId: string): Promise<JobStatus> {
    return this.#jobs.wait(jobId);
  }

  pauseJob(jobId: string): Promise<JobStatus> {
    return this.#jobs.pause(jobId);
  }

  resumeJob(jobId: string): Promise<JobStatus> {
    return this.#jobs.resume(jobId);
  }

  /** Leaves a mixture of both keys that is read as before; the next job finishes it. */
  cancelJob(jobId: string): Promise<JobStatus> {
    return this.#jobs.cancel(jobId);
  }

  /**
   * Puts back what a job has rewritten, where nobody has changed it since; the old key serves again. CONFLICT where a later job
   * has replaced its backups.
   */
  restoreBackup(jobId: string): Promise<Restored> {
    return this.#jobs.restore(jobId);
  }

  /**
   * Removes backups that are over their time, and destroys the keys that go with them; and what is known of jobs that ended more
   * than a month ago, but for the last five of each thread and for those whose backups are still there. How many jobs' backups went.
   */
  async sweepBackups(): Promise<number> {
    const { jobs, left } = await this.#backups.sweep();
    await this.#book.prune(this.#now());
    const [first] = left;
    if (first !== undefined) throw first.error;
    return jobs;
  }

  /** Clears what `encrypt-existing` jobs have left in the store's bytes that were told to defer that. Whether there was any. */
  compactStore(): Promise<boolean> {
    return this.#compaction.settle();
  }

  /**
   * Moves the keys of these threads, or of all, to the active KEK, as many at once as `parallelism` says (4 unless told, up to 16).
   * The key service asks for the role `admin`. What it cannot do for one thread is told in the result.
   */
  rewrapDeks(threadIds: readonly string[] | 'all', { parallelism }: { parallelism?: number } = {}): Promise<Rewrapped> {
    return this.#rewrap.rewrap(threadIds === 'all' ? this.#directory.ids() : threadIds, parallelism);
  }

  /** Jobs stop where they are, for the next process to go on with. Store and provider stay open. */
  close(): Promise<void> {
    return this.#jobs.close();
  }

  /** Destroys the thread's keys, then all that the store has of it. Complete, and gone from the store's bytes, when it resolves. */
  async purge(threadId: string): Promise<void> {
    await this.#purge.purge(await this.#directory.record(threadId));
    await this.#provision.reapOf(threadId);
  }
}
