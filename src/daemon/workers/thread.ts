import { fstatSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { WORKER_HUNG_SWEEPS, WORKER_QUIET_SWEEPS } from '../../limits.js';
import { binding } from '../../native.js';
import type { SharedBuffers } from '../buffers.js';
import type { Identity } from '../identity.js';
import { errorFields } from '../log.js';
import type { Service } from '../operations.js';
import { Counterpart, type CounterpartEvents } from './counterpart.js';
import type { Beginning, Order, Word } from './crossing.js';

const PROGRAM = new URL('./worker.js', import.meta.url);

/** A descriptor on its way to a worker, and which socket it is: its number may be another one's by the time that matters. */
interface Handover {
  fd: number;
  inode: number;
}

/** What a thread tells of itself. */
export interface ThreadEvents {
  onReady(): void;
  /** Nothing of it is left: its connections are closed. */
  onEnd(cause: unknown): void;
  onTidings(tidings: Extract<Word, { kind: 'tidings' }>): void;
}

/** One worker thread, and the main thread's side of its connections. */
export class Thread {
  readonly ended: Promise<void>;
  isReady = false;
  private readonly worker: Worker;
  private readonly counterparts = new Map<number, Counterpart>();
  private readonly handovers = new Map<number, Handover>();
  private failure: unknown;
  /** Sweeps since it said anything. */
  private unanswered = 0;

  constructor(
    readonly number: number,
    beginning: Beginning,
    private readonly service: Service,
    private readonly buffers: SharedBuffers,
    private readonly events: ThreadEvents,
  ) {
    // Nothing of the environment, where a master key may stand, and no module that was to be loaded into the main thread.
    this.worker = new Worker(PROGRAM, { workerData: beginning, env: {}, execArgv: [], name: `worker-${number}` });
    this.worker.on('message', (word: Word) => this.hear(word));
    this.worker.on('error', (error) => {
      this.failure = error;
    });
    this.worker.on('messageerror', (error) => {
      this.failure = error;
      void this.terminate();
    });
    this.ended = new Promise((resolve) => {
      this.worker.on('exit', () => {
        this.end();
        resolve();
      });
    });
  }

  /** Connections that it has, or is about to have. */
  get size(): number {
    return this.counterparts.size;
  }

  /** The descriptor is not the caller's any more. Throws, and it still is, if it cannot be handed over. */
  open(number: number, fd: number, identity: Identity, events: CounterpartEvents): Counterpart {
    const { ino } = fstatSync(fd);
    const ending = {
      onKnown: events.onKnown,
      onClose: (counterpart: Counterpart) => {
        this.counterparts.delete(number);
        events.onClose(counterpart);
      },
    };
    const counterpart = new Counterpart(number, this.service, this.buffers, identity, ending, (order, moved) =>
      this.post(order, moved),
    );
    this.counterparts.set(number, counterpart);
    this.handovers.set(number, { fd, inode: ino });
    this.post({ kind: 'open', connection: number, fd, told: counterpart.told });
    return counterpart;
  }

  /** Whether it has not answered lately. */
  get isQuiet(): boolean {
    return this.unanswered > WORKER_QUIET_SWEEPS;
  }

  /**
   * Called every SWEEP_INTERVAL_MS. One that is hung keeps its peers, and the places that they take, for ever: it looks after their
   * time itself.
   */
  sweep(): void {
    if (!this.isReady) return;
    if (++this.unanswered <= WORKER_HUNG_SWEEPS) {
      this.post({ kind: 'ask' });
      return;
    }
    this.isReady = false;
    this.failure ??= new Error('it does not answer');
    this.service.log('error', 'worker_hung', { worker: this.number });
    void this.terminate();
  }

  /** It ends by itself when what it was told before is done. */
  finish(): void {
    this.post({ kind: 'end' });
  }

  /** In the middle of whatever it does. */
  async terminate(): Promise<void> {
    await this.worker.terminate();
  }

  private post(order: Order, moved: ArrayBuffer[] = []): void {
    this.worker.postMessage(order, moved);
  }

  private hear(word: Word): void {
    this.unanswered = 0;
    try {
      this.take(word);
    } catch (error) {
      this.service.log('error', 'connection_failed', { worker: this.number, ...errorFields(error) });
      void this.terminate();
    }
  }

  private take(word: Word): void {
    if (word.kind === 'ready') {
      this.isReady = true;
      this.events.onReady();
    } else if (word.kind === 'log') this.service.log(word.level, word.event, word.fields);
    else if (word.kind === 'tidings') {
      this.events.onTidings(word);
      this.post({ kind: 'heard' });
    } else if (word.kind !== 'here') this.takeFor(word);
  }

  private takeFor(word: Extract<Word, { connection: number }>): void {
    const counterpart = this.counterparts.get(word.connection);
    if (word.kind === 'frames') {
      if (counterpart === undefined) new Uint8Array(word.bytes).fill(0);
      else counterpart.take(word);
      return;
    }
    const handover = this.handovers.get(word.connection);
    this.handovers.delete(word.connection);
    if (word.kind === 'refused' && handover !== undefined) binding.closeFd(handover.fd);
    if (word.kind !== 'opened') counterpart?.closed();
  }

  private end(): void {
    this.isReady = false;
    // What had not come to be its own when it ended. It closed what had, and the same number may be another descriptor now.
    for (const { fd, inode } of this.handovers.values()) if (inodeOf(fd) === inode) binding.closeFd(fd);
    this.handovers.clear();
    for (const counterpart of [...this.counterparts.values()]) counterpart.closed();
    this.events.onEnd(this.failure);
  }
}

function inodeOf(fd: number): number | undefined {
  try {
    return fstatSync(fd).ino;
  } catch {
    return undefined;
  }
}
