import { asKmsError, KmsError } from '../../errors.js';
import type { MadeKey } from '../key-provision.js';
import { mapKey, threadKey } from '../names.js';
import { isPassing } from '../passing.js';
import { changedThread, type ThreadKeys, type ThreadRecord } from '../thread-record.js';
import type { Unit } from '../thread-store.js';
import { withBlocked } from './blocked.js';
import type { Stored } from './entries.js';
import { BATCH, isOver, type Job, pageOf } from './job.js';
import { busyKey, type Written } from './job-book.js';
import type { Unmoved } from './mover.js';
import { Patience } from './patience.js';
import type { Workshop } from './workshop.js';

/** How long a runner in a shared store is believed to live after its last word. */
const LEASE_MS = 30_000;
/** Of a pause, after which an order is looked for. */
const SLICE_MS = 100;

/** A page of which all has been done that can be. */
interface Walked {
  /** Where to go on; undefined at the end. */
  next: string | undefined;
  walked: number;
  /** Entries that had to be rewritten. */
  needed: number;
  moved: number;
  unmoved: readonly Unmoved[];
}

/** Thrown inside when the job was ordered to stop, or the process is closing. */
class Stopped extends Error {}

/**
 * Runs one job to its end. The order: the new key is durable in the thread's record before anything is rewritten, so that from
 * then on writers use it; each entry is rewritten in one change that expects it as it was read, so that it is under the old key
 * or under the new one and never lost or rewritten twice; the old key is retired only after a walk over everything has found
 * nothing under it. The cursor is only where to go on moving: what a crash makes it forget is found to be done already. So a failure is
 * as good as a crash: what it may have left half done is done again, once that has passed which has failed.
 */
export class Runner {
  readonly #shop: Workshop;
  readonly #owner: string;
  readonly #isClosing: () => boolean;
  readonly #patience = new Patience();
  #written: Written;
  /** A runner before, or this one before a failure, may have ended in the middle of any step. */
  #isResumed: boolean;
  /** This runner has found nothing under the old keys, and the job was its own ever since. */
  #isVerified = false;
  #trouble: KmsError | undefined;
  /** Entries walked by this runner, and since when, for the rate. */
  #walked = 0;
  #isHurried = false;
  #moved = 0;
  readonly #since = performance.now();

  constructor(shop: Workshop, written: Written, owner: string, isResumed: boolean, isClosing: () => boolean) {
    this.#shop = shop;
    this.#written = written;
    this.#owner = owner;
    this.#isResumed = isResumed;
    this.#isClosing = isClosing;
  }

  get job(): Job {
    return this.#written.job;
  }

  get perSecond(): number {
    return this.#walked / Math.max(0.001, (performance.now() - this.#since) / 1000);
  }

  /** What it waits for to pass, if it does. */
  get trouble(): string | null {
    return this.#trouble?.message ?? null;
  }

  /** Resolves with the job as it stands when it is over, or stopped. Rejects with nothing: what went wrong is in the job. */
  async run(): Promise<Job> {
    for (let failure: KmsError | undefined; ; ) {
      try {
        if (failure === undefined) await this.#steps();
        else await this.#again({ state: 'failed', error: failure.message });
        return this.job;
      } catch (error) {
        if (error instanceof Stopped) return this.job;
        const cause = asKmsError(error);
        const isToPass = failure !== undefined || isPassing(cause);
        // A job that is gone, or that another process will go on with, has nothing to be told.
        if ((isToPass && this.#isClosing()) || (failure !== undefined && cause.code === 'NOT_FOUND')) return this.job;
        if (isToPass) await this.#outwait(cause);
        else failure = cause;
      }
    }
  }

  async #steps(): Promise<void> {
    await this.#note({});
    if (this.job.phase === 'key') await this.#makeKey();
    while (this.job.phase !== 'end') {
      if (this.job.phase === 'move') await this.#walk('verify');
      else if (this.job.phase === 'verify') await this.#verify();
      else await this.#retire();
    }
    await this.#end();
  }

  async #outwait(failure: KmsError): Promise<void> {
    this.#isResumed = true;
    this.#isVerified = false;
    this.#trouble = failure;
    await this.#rest(this.#patience.pause());
    this.#isHurried = false;
  }

  /** Writes the job down. Throws Stopped when somebody has ordered it to. */
  async #note(change: Partial<Job>, also?: Unit): Promise<boolean> {
    const isOver = change.state !== undefined && change.state !== 'running';
    const lease = { runner: isOver ? null : this.#owner, leaseUntil: isOver ? 0 : Date.now() + LEASE_MS };
    const changed = await this.#shop.book.change(this.#written, { ...change, ...lease }, also);
    if (changed !== undefined) {
      this.#written = changed;
      if (change.cursor !== undefined || change.phase !== undefined) this.#progressed();
      return true;
    }
    const found = await this.#shop.book.read(this.job.jobId);
    const isUnchanged = Buffer.compare(found.bytes, this.#written.bytes) === 0;
    this.#written = found;
    if (found.job.state !== 'running' || (found.job.runner !== this.#owner && !isUnchanged)) throw new Stopped();
    return false;
  }

  #progressed(): void {
    this.#trouble = undefined;
    this.#patience.renew();
  }

  /**
   * The key is found by an intention until the thread's record names it: a crash in between, an order, or another runner leaves
   * none behind that nobody knows of.
   */
  async #makeKey(): Promise<void> {
    const { directory, provision } = this.#shop;
    const { threadId, kind, startedAt } = this.job;
    let made: MadeKey | undefined;
    try {
      for (;;) {
        const thread = await directory.record(threadId);
        const known = thread.keys?.all ?? [];
        if (kind === 'encrypt-existing' && thread.keys !== undefined) {
          if (!(await this.#note({ phase: 'move', cursor: '', newKeyId: thread.keys.keyId }))) continue;
          if (made !== undefined) await provision.withdraw(made);
          return;
        }
        // One that has been made is not made again because the thread's record was changed meanwhile.
        made ??= await provision.another(threadId, known, this.#isResumed ? { known, since: startedAt } : undefined);
        if (await this.#name(made, thread)) return provision.release(made);
        if (await provision.holds(made)) continue;
        await provision.withdraw(made);
        made = undefined;
      }
    } catch (error) {
      // Else the next attempt finds it by its intention, as does a start what cannot be withdrawn now.
      const isForGood = error instanceof Stopped || asKmsError(error).code === 'NOT_FOUND';
      if (made !== undefined && isForGood) await provision.withdraw(made).catch(() => {});
      else if (made !== undefined) provision.release(made);
      throw error;
    }
  }

  /** Whether the key is in the thread's record, and in the job's. */
  #name(made: MadeKey, thread: ThreadRecord): Promise<boolean> {
    const { threadId } = this.job;
    const old = thread.keys?.all ?? [];
    const keys: ThreadKeys = { ...made.keys, all: [...old, made.keys.keyId] };
    const key = threadKey(threadId);
    const naming = this.#shop.provision.naming(made);
    const also: Unit = {
      expect: [{ key, value: thread.bytes }, ...naming.expect],
      put: [
        { key, value: changedThread(thread, { keys, ...(thread.keys === undefined ? { wasPlain: true } : {}) }) },
        { key: mapKey(threadId), value: Buffer.from(keys.keyId, 'latin1') },
      ],
      remove: naming.remove,
    };
    return this.#note({ phase: 'move', cursor: '', newKeyId: keys.keyId, oldKeyIds: old }, also);
  }

  /** Over everything once, from the cursor on. Whether something had to be rewritten. */
  async #walk(next: Job['phase']): Promise<boolean> {
    const { options } = this.job;
    let hadWork = false;
    let { cursor } = this.job;
    /** The page before: its changes are on their way to the disk while the next one is read and sealed. */
    let before: Promise<Walked> | undefined;
    let under: Promise<Walked> | undefined;
    try {
      for (;;) {
        if (this.#isClosing()) throw new Stopped();
        const page = await this.#taken(cursor);
        before = under;
        under = page.done;
        if (before !== undefined) hadWork = (await this.#passed(await before, next)) || hadWork;
        if (page.next === undefined) return (await this.#passed(await under, next)) || hadWork;
        cursor = page.next;
        if (options.messagesPerSecond === 0) continue;
        hadWork = (await this.#passed(await under, next)) || hadWork;
        under = undefined;
        await this.#pace();
      }
    } finally {
      // Nothing is written any more when a job has stopped.
      await Promise.allSettled([before, under]);
    }
  }

  /** A page, and the rewriting of it, which is under way. */
  async #taken(cursor: string): Promise<{ next: string | undefined; done: Promise<Walked> }> {
    const { threadId, kind, options } = this.job;
    const { entries, mover, tables } = this.#shop;
    const leave = await tables.take();
    try {
      const { entries: found, next } = await entries.page(threadId, cursor, pageOf(options));
      const thread = await this.#thread();
      const needed = found.filter((entry) => mover.needs(kind, thread, entry));
      const counts = { next, walked: found.length, needed: needed.length };
      const done = this.#rewrite(thread, needed).then((result) => ({ ...counts, ...result }));
      // Whoever fails first is told of; the other is waited for below.
      done.catch(() => {}).then(leave);
      return { next, done };
    } catch (error) {
      leave();
      throw error;
    }
  }

  /** Notes that a page is done. Whether something in it was rewritten, or lost a race and will be found by the next walk. */
  async #passed({ next, walked, needed, moved, unmoved }: Walked, phase: Job['phase']): Promise<boolean> {
    this.#walked += walked;
    this.#moved += moved;
    const counts = {
      walked: this.job.walked + walked,
      moved: this.job.moved + moved,
      blockedBy: withBlocked(this.job.blockedBy, unmoved),
    };
    const at = next === undefined ? { phase, cursor: '' } : { cursor: next };
    // What has been done is done, whether or not this is written at the first attempt.
    await this.#again({ ...counts, ...at });
    return needed > unmoved.length;
  }

  async #thread(): Promise<ThreadRecord> {
    const thread = await this.#shop.directory.record(this.job.threadId);
    if (thread.keys?.keyId !== this.job.newKeyId) throw new KmsError('CONFLICT', 'the thread has another key than the job made');
    return thread;
  }

  async #rewrite(thread: ThreadRecord, needed: readonly Stored[]): Promise<{ moved: number; unmoved: Unmoved[] }> {
    const batches: Stored[][] = [];
    for (let at = 0; at < needed.length; at += BATCH) batches.push(needed.slice(at, at + BATCH));
    const done = await Promise.all(batches.map((batch) => this.#batch(thread, batch)));
    return { moved: done.reduce((sum, { moved }) => sum + moved, 0), unmoved: done.flatMap(({ unmoved }) => unmoved) };
  }

  async #batch(thread: ThreadRecord, batch: readonly Stored[]): Promise<{ moved: number; unmoved: Unmoved[] }> {
    const { jobId, kind, options } = this.job;
    const { moved, unmoved } = await this.#shop.mover.rewrite(kind, thread, batch);
    // Whoever stalls until the job is over writes nothing any more: what was put back meanwhile stands there as it stood before.
    const isUnderWay = { key: busyKey(this.job.threadId), value: Buffer.from(jobId, 'latin1') };
    const units = moved.map((one) => ({
      expect: [isUnderWay, { key: one.entry.key, value: one.entry.value }],
      put: [{ key: one.entry.key, value: one.value }, ...(options.keepBackupsMs > 0 ? this.#shop.backups.of(jobId, one) : [])],
      remove: [],
    }));
    const made = await this.#shop.store.commit(units);
    return { moved: made.filter(Boolean).length, unmoved };
  }

  /** Another walk; what it finds to rewrite was changed while the walk before it passed, so it is followed by one more. */
  async #verify(): Promise<void> {
    // From the beginning, also after an interruption: races that were lost and messages that were blocked before it are forgotten,
    // and a walk over the rest alone would have the key retired that they are under.
    await this.#again({ walked: 0, blockedBy: [], ...(this.job.cursor !== '' && { cursor: '' }) });
    if (await this.#walk('verify')) return;
    if (this.job.blockedBy.length > 0) {
      await this.#again({ state: 'blocked' });
      throw new Stopped();
    }
    const thread = await this.#thread();
    const key = threadKey(this.job.threadId);
    const put = [{ key, value: changedThread(thread, { isMigrated: true }) }];
    this.#isVerified = await this.#note({ phase: 'retire' }, { expect: [{ key, value: thread.bytes }], put, remove: [] });
  }

  /**
   * While this runner stalled, another may have taken the job for abandoned and ended it, and what it rewrote may have been put
   * back since: the old keys serve again. So before each of them is disabled the job is written, which fails unless it is ours,
   * and who did not walk over everything himself walks first. The key service knows nothing of jobs: who stalls between the two
   * disables a key all the same. He finds out as he writes down that he has, and gives it back; until then, or for good if he dies
   * before, what was put back waits for `enableKey`.
   */
  async #retire(): Promise<void> {
    const { jobId, threadId, oldKeyIds, options } = this.job;
    const { backups, provision } = this.#shop;
    if (!this.#isVerified && (await this.#hasStragglers())) {
      // Somebody may have begun to disable what they are under.
      await provision.enable(oldKeyIds);
      await this.#again({ phase: 'move', cursor: '' });
      return;
    }
    let isDisabled = false;
    try {
      for (const keyId of oldKeyIds) {
        await this.#again({});
        isDisabled = true;
        await provision.disable([keyId]);
      }
      const mark = backups.expiry(jobId, threadId, oldKeyIds, options.keepBackupsMs);
      await this.#again({ phase: 'end' }, { expect: [], put: [mark], remove: [] });
    } catch (error) {
      if (isDisabled && error instanceof Stopped) await this.#giveBack(oldKeyIds);
      throw error;
    }
  }

  /** Whether there is anything that is not under the new key. */
  async #hasStragglers(): Promise<boolean> {
    const { threadId, kind, options } = this.job;
    for (let after = ''; ; ) {
      if (this.#isClosing()) throw new Stopped();
      const page = await this.#shop.entries.page(threadId, after, BATCH * options.concurrency);
      const thread = await this.#thread();
      if (page.entries.some((entry) => this.#shop.mover.needs(kind, thread, entry))) return true;
      if (page.next === undefined) return false;
      after = page.next;
    }
  }

  /** Unless the job is gone on with, or what it has kept will be put back later: then the keys are to be disabled. */
  async #giveBack(keyIds: readonly string[]): Promise<void> {
    const { backups, provision } = this.#shop;
    for (;;) {
      try {
        if (isOver(this.job) && !(await backups.areKept(this.job.jobId))) await provision.enable(keyIds);
        return;
      } catch (error) {
        const cause = asKmsError(error);
        if (this.#isClosing() || !isPassing(cause)) return;
        await this.#outwait(cause);
      }
    }
  }

  async #end(): Promise<void> {
    const { jobId, threadId, kind, options } = this.job;
    const { backups, compaction, mover, store } = this.#shop;
    const own = (await backups.sweep()).left.find((left) => left.jobId === jobId);
    if (own !== undefined) throw own.error;
    const isDeferred = kind === 'encrypt-existing' && options.defersCompaction === true;
    if (kind === 'encrypt-existing') {
      await backups.dropUncovered(jobId, threadId, (value) => mover.isOfPolicy(value));
      if (!isDeferred) await store.compact();
    }
    const put = isDeferred ? [compaction.owed()] : [];
    await this.#again({ state: 'done', finishedAt: new Date().toISOString() }, { expect: [], put, remove: [] });
  }

  async #again(change: Partial<Job>, also?: Unit): Promise<void> {
    while (!(await this.#note(change, also)));
  }

  async #pace(): Promise<void> {
    const { messagesPerSecond } = this.job.options;
    if (messagesPerSecond === 0) return;
    const dueMs = (this.#moved / messagesPerSecond) * 1000 - (performance.now() - this.#since);
    await this.#rest(dueMs);
    if (!this.#isHurried) return;
    // Whoever has ordered something waits for it.
    this.#isHurried = false;
    await this.#note({});
  }

  /** Shorter when the process closes, or somebody has an order. */
  async #rest(ms: number): Promise<void> {
    for (let left = ms; left > 0 && !this.#isClosing() && !this.#isHurried; left -= SLICE_MS) {
      await this.#shop.wait(Math.min(left, SLICE_MS));
    }
  }

  /** There is an order for the job in the store. */
  hurry(): void {
    this.#isHurried = true;
  }
}
