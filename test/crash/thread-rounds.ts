import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { openLmdbThreadStore } from '../../dist/threads/lmdb-store.js';
import { openThreads } from '../../dist/threads/threads.js';
import { Child, ChildDaemon } from './child.js';
import { embeddedOn, type Ground } from './ground.js';
import { auditJob, auditThread, entriesBelow, type Remains } from './thread-audit.js';
import { bodyOf } from './thread-bodies.js';
import { ThreadLedger } from './thread-ledger.js';

const THREAD = 'crash/thread';
const FILLERS = 64;
/** Numbers of one life's bodies. */
const NUMBERS_A_LIFE = 1_000_000;
/** Kills that wait for the job to come to one of its rare phases. */
const AIMED_SHARE = 0.3;
const AIMS = ['key', 'verify', 'retire', 'end', 'done'];
const LONGEST_AIM_MS = 12;
const LONGEST_AWAY_MS = 400;
const WEEK_MS = 7 * 24 * 3_600_000;

export interface ThreadFigures {
  messages: number;
  kills: number;
  /** The phase that a job was in, as far as was told, when its process or its key service was killed. */
  phases: Record<string, number>;
  rotations: number;
  /** Writes of the processes that were answered, and are there. */
  answered: number;
  /** Writes that failed while the key service was away, and are not. */
  refused: number;
  listed: number;
  /** Messages and versions in the store at the end. */
  entries: number;
}

export interface Pace {
  messagesPerSecond: number;
  /** Kills come at most so long after the job goes on. */
  longestLifeMs: number;
}

/**
 * A service that rotates the key of a thread is killed over and over, or its key service is, while it writes and lists. Then every
 * message must read as it was written, be sealed once, under the new key, and the job be done and its old keys retired.
 */
export class ThreadRounds {
  readonly figures: ThreadFigures;
  readonly ledger = new ThreadLedger();
  readonly #ground: Ground;
  readonly #pace: Pace;
  readonly #random: () => number;
  #lives = 0;
  #phase = '';
  #isAt: ((phase: string) => void) | undefined;

  private constructor(ground: Ground, messages: number, pace: Pace, random: () => number) {
    this.#ground = ground;
    this.#pace = pace;
    this.#random = random;
    const none = { rotations: 0, answered: 0, refused: 0, listed: 0, entries: 0 };
    this.figures = { messages, kills: 0, phases: {}, ...none };
  }

  static async begin(ground: Ground, messages: number, pace: Pace, random: () => number): Promise<ThreadRounds> {
    const rounds = new ThreadRounds(ground, messages, pace, random);
    await rounds.#opened(({ threads }) => rounds.#fill(threads, messages));
    return rounds;
  }

  /** The bodies of before all rotations have numbers below zero. */
  async #fill(threads: Remains['threads'], messages: number): Promise<void> {
    await threads.createThread({ threadId: THREAD });
    let left = messages;
    const fill = async () => {
      for (let n = -left--; n < 0; n = -left--) {
        const { messageId } = await threads.append(THREAD, { body: bodyOf(n) });
        this.ledger.appended(n, messageId);
      }
    };
    await Promise.all(Array.from({ length: FILLERS }, fill));
  }

  get #store(): string {
    return join(this.#ground.directory, 'threads');
  }

  /** `keepBackups` is for jobs that it begins, not for one that it goes on with. */
  #child(socket: string, keepBackups: boolean): Child {
    const { dataDir, keyFile } = this.#ground;
    const { messagesPerSecond } = this.#pace;
    const job = JSON.stringify({ messagesPerSecond, concurrency: 2, keepBackupsMs: keepBackups ? WEEK_MS : 0 });
    this.#lives += 1;
    const numbers = String(this.#lives * NUMBERS_A_LIFE);
    const child = new Child([
      resolve('dist-test/crash/thread-child.js'),
      this.#store,
      dataDir,
      keyFile,
      socket,
      THREAD,
      numbers,
      job,
    ]);
    child.onLine = (line) => this.#hear(line);
    return child;
  }

  #hear(line: string): void {
    const [what, which = ''] = line.split(' ');
    if (what === 'phase') {
      this.#phase = which;
      this.#isAt?.(which);
    } else if (what === 'rotating') {
      this.#isAt?.('rotating');
      if (this.#phase === '') this.#phase = 'move';
    } else if (what === 'rotated') this.figures.rotations += 1;
    else this.ledger.hear(line);
  }

  /** A random instant of a job that is under way. */
  async #instant(child: Child): Promise<void> {
    const isAimed = this.#random() < AIMED_SHARE;
    const aim = isAimed ? (AIMS[Math.floor(this.#random() * AIMS.length)] as string) : 'rotating';
    const pause = this.#random() * (isAimed ? LONGEST_AIM_MS : this.#pace.longestLifeMs);
    await Promise.race([this.#coming(aim), this.#unlessEnded(child)]);
    await Promise.race([delay(pause), this.#unlessEnded(child)]);
  }

  #coming(phase: string): Promise<void> {
    return new Promise((found) => {
      this.#isAt = (now) => {
        if (now === phase) found();
      };
    });
  }

  async #unlessEnded(child: Child): Promise<never> {
    await child.ended;
    throw new Error(`the process ended by itself: ${child.errors}`);
  }

  #killed(): void {
    this.figures.kills += 1;
    this.figures.phases[this.#phase] = (this.figures.phases[this.#phase] ?? 0) + 1;
  }

  /** One life of the application over the embedded service. */
  async application(keepBackups: boolean): Promise<void> {
    this.#phase = '';
    const child = this.#child('', keepBackups);
    try {
      await this.#instant(child);
      this.#killed();
    } finally {
      await child.kill();
    }
  }

  /** The application lives on, and its daemon is killed and started anew. */
  async daemons(kills: number, keepBackups: boolean): Promise<void> {
    let daemon = new ChildDaemon(this.#ground);
    await daemon.ready;
    const child = this.#child(this.#ground.socket, keepBackups);
    try {
      await this.#coming('rotating');
      for (let round = 0; round < kills; round += 1) {
        await this.#killedDaemon(daemon, child);
        daemon = new ChildDaemon(this.#ground);
        await daemon.ready;
      }
      await child.stop();
      await daemon.stop();
    } finally {
      await child.kill();
      await daemon.kill();
    }
  }

  async #killedDaemon(daemon: ChildDaemon, child: Child): Promise<void> {
    // The job goes on by itself: nobody begins it for this kill.
    const instant = this.#instant(child);
    this.#isAt?.('rotating');
    await instant;
    this.#killed();
    await daemon.kill();
    await Promise.race([delay(this.#random() * LONGEST_AWAY_MS), this.#unlessEnded(child)]);
  }

  /** A life that nobody ends before its job is done. */
  async lastLife(): Promise<void> {
    const child = this.#child('', true);
    const isGoingOn = this.#coming('rotating');
    await Promise.race([isGoingOn, this.#unlessEnded(child)]);
    await child.stop();
  }

  /** Throws unless all is as it should be after the last job; then what follows one in its life is tried, up to the purge. */
  async audit(): Promise<void> {
    await this.#opened(async (remains) => {
      const { threads } = remains;
      const { jobs } = await threads.jobs({ limit: 1_000 });
      const job = jobs.at(-1);
      if (job === undefined || jobs.some(({ state }) => state !== 'done')) throw new Error('a job is not done');
      this.figures.entries = await auditThread(remains, this.ledger);
      await auditJob(remains, job, this.ledger);
      Object.assign(this.figures, { answered: this.ledger.made - this.figures.messages, refused: this.ledger.lost });
      this.figures.listed = this.ledger.listed;
      if (job.options.keepBackupsMs > 0) await this.#putBack(remains, job.jobId);
      await threads.purge(THREAD);
      await this.#isGone(remains);
    });
  }

  async #putBack(remains: Remains, jobId: string): Promise<void> {
    const { threads } = remains;
    const { restored } = await threads.restoreBackup(jobId);
    if (restored < this.figures.messages / 2) throw new Error(`${restored} backups were put back`);
    const next = await threads.rotateThreadDek(THREAD, { keepBackupsMs: 0 });
    const { state, error } = await threads.waitForJob(next.jobId);
    if (state !== 'done') throw new Error(`the next job is ${state}: ${error}`);
    await auditThread(remains, this.ledger);
  }

  async #isGone({ kms, store }: Remains): Promise<void> {
    const prefixes = ['thread:', 'version:', 'backup:', 'job:', 'kms:map:', 'kms:purge:', 'kms:provision:', 'kms:backups:'];
    for (const prefix of prefixes) {
      for await (const { key } of entriesBelow(store, prefix)) throw new Error(`the purge has left ${key}`);
    }
    const { keys } = await kms.listKeys({ threadId: THREAD, limit: 1_000 });
    if (keys.some(({ state }) => state !== 'destroyed')) throw new Error('the purge has left a key');
  }

  async #opened(work: (remains: Remains) => Promise<void>): Promise<void> {
    const kms = await embeddedOn(this.#ground);
    const store = await openLmdbThreadStore(this.#store);
    const threads = await openThreads({ kms, store });
    try {
      await work({ kms, store, threads, threadId: THREAD });
    } finally {
      await threads.close();
      await store.close();
      await kms.close();
    }
  }
}
