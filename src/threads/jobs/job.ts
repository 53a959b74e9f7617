/** What a job does to its thread. */
export type JobKind = 'rotate' | 'encrypt-existing';

/**
 * `running` until it is `done`; `paused` and `cancelled` by order; `blocked` when messages could not be read, `failed` when the
 * store or the key service refused: both go on from where they were when they are resumed. While one of them is away, overloaded
 * or sealed, the job asks again until it is back.
 */
export type JobState = 'running' | 'paused' | 'cancelled' | 'blocked' | 'failed' | 'done';

/** In this order; `verify` walks all again and goes back to `move` for what it finds. */
export type JobPhase = 'key' | 'move' | 'verify' | 'retire' | 'end';

export interface JobOptions {
  /** Messages rewritten per second at most; 0, unless told, for as many as it can. */
  messagesPerSecond: number;
  /** Batches of messages under way at once, 1 to 16; 4 unless told. */
  concurrency: number;
  /** How long the ciphertext of before stays restorable, and with it the old key: 7 days unless told; 0 keeps none. */
  keepBackupsMs: number;
  /** What an `encrypt-existing` has replaced stays in the store's bytes until `Threads.compactStore`; of many jobs the last is enough. */
  defersCompaction?: boolean;
}

export interface BlockedMessage {
  messageId: string;
  reason: string;
}

/** A job, as the store has it. */
export interface Job {
  jobId: string;
  kind: JobKind;
  threadId: string;
  state: JobState;
  phase: JobPhase;
  options: JobOptions;
  /** Under which everything will be; null before it is made. */
  newKeyId: string | null;
  /** Those that end with it. */
  oldKeyIds: readonly string[];
  /** The key of the last entry that was handled, '' at the beginning. */
  cursor: string;
  /** Entries, messages and versions of messages, when it began. */
  total: number;
  /** Entries walked in this pass. */
  walked: number;
  /** Entries rewritten. */
  moved: number;
  /** Up to 100 messages that could not be read. */
  blockedBy: readonly BlockedMessage[];
  /** Why it failed. */
  error: string | null;
  /** RFC 3339, UTC. */
  startedAt: string;
  updatedAt: string;
  finishedAt: string | null;
  /** Which process runs it, and until when it says so; only in stores that are shared. */
  runner: string | null;
  leaseUntil: number;
}

/** A job, as it is told. */
export interface JobStatus extends Omit<Job, 'cursor' | 'runner' | 'leaseUntil'> {
  /** Why it failed; while it runs in this process, what it waits for to pass. */
  error: string | null;
  /** Entries walked per second by this process lately; 0 while it does not run here. */
  perSecond: number;
  /** null while that cannot be said. */
  secondsLeft: number | null;
}

export interface JobQuery {
  /** Jobs at most, 1 to 1,000; 100 unless told. */
  limit?: number;
  /** The newest first; the oldest first unless told. */
  reverse?: boolean;
  /** `next` of the page before. */
  cursor?: string;
}

export interface JobPage {
  jobs: JobStatus[];
  /** null on the last page. */
  next: string | null;
}

/** What a job would do. */
export interface Forecast {
  threadId: string;
  /** Entries there are: messages, and versions of them. */
  total: number;
  /** Entries that it would rewrite, all of which open. */
  toMove: number;
  blockedBy: readonly BlockedMessage[];
}

export const MAX_BLOCKED = 100;

export function isOver({ state }: Job): boolean {
  return state === 'done' || state === 'cancelled';
}

/** Messages of one batch: enough to share a request and a flush, few enough to leave others their turn. */
export const BATCH = 256;

/** Messages that are walked in one go: no more than a throttled job may rewrite in a second. */
export function pageOf({ concurrency, messagesPerSecond }: JobOptions): number {
  const most = BATCH * concurrency;
  return messagesPerSecond === 0 ? most : Math.min(most, messagesPerSecond);
}
