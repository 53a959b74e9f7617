import { ERROR_TABLE, type KmsError } from '../../errors.js';
import { BIT, DEFERRED_FIELDS, FLAG, NO_LIMIT, POLICY_SHIFT, REPORT } from '../../native.js';
import { FRAME_HEADER_BYTES } from '../../wire/frames.js';
import type { Account } from '../accounts.js';
import type { SharedBuffers } from '../buffers.js';
import type { Deferred } from '../deferred.js';
import { actorOf } from '../ground.js';
import { ANONYMOUS, type Identity } from '../identity.js';
import { errorFields } from '../log.js';
import { Misses } from '../misses.js';
import type { DatabaseKms, Service } from '../operations.js';
import { type Asker, type Bounds, Requests } from '../requests.js';
import { Stay } from '../stay.js';
import { report, walk } from '../walk.js';
import type { Lying, Order, Told, Word } from './crossing.js';
import { Dispatch } from './dispatch.js';

const misses = new Misses();

/**
 * What the worker has taken from an account for the frames of one chunk; it is told when they are done with. Their bytes only when
 * all are: the last of them keeps the memory of the whole chunk.
 */
class Lent implements Bounds {
  readonly isFull = false;
  begun = 0;

  constructor(
    private readonly place: number,
    private left: number,
    private readonly bytes: number,
    private readonly dispatch: Dispatch,
  ) {}

  begin(): boolean {
    this.begun++;
    return true;
  }

  take(): boolean {
    return true;
  }

  end(requests = 1): void {
    this.left -= requests;
    this.dispatch.settle(this.place, requests, this.left === 0 ? this.bytes : 0);
  }

  give(): void {}
}

/** What the connection tells of itself. */
export interface CounterpartEvents {
  onKnown(connection: Counterpart): void;
  onClose(connection: Counterpart): void;
}

/**
 * The main thread's side of a connection that a worker serves: who it is, and its requests that the native core does not answer
 * at once.
 */
export class Counterpart implements Asker {
  readonly surface = 'binary';
  readonly doorway: Stay;
  private current: Identity;
  private account: Account;
  private roleBits: number;
  private readonly dispatch: Dispatch;
  private readonly requests: Requests;
  private lent: Lent | undefined;
  private isBroken = false;
  private isOver = false;
  private isClosed = false;

  constructor(
    readonly number: number,
    private readonly service: Service,
    buffers: SharedBuffers,
    identity: Identity,
    private readonly events: CounterpartEvents,
    private readonly post: (order: Order, moved?: ArrayBuffer[]) => void,
  ) {
    // Before the answer to what has moved it: what comes after that is served from there.
    this.doorway = new Stay(service.kms, (space) => post({ kind: 'moved', connection: number, space }));
    this.current = identity;
    this.account = service.accounts.of(identity);
    this.account.connections++;
    this.roleBits = service.policy.bitsOf(identity);
    this.dispatch = new Dispatch(number, buffers, post);
    this.requests = new Requests(service, this, this.dispatch, number);
  }

  get isKnown(): boolean {
    return this.current !== ANONYMOUS;
  }

  get identity(): Identity {
    return this.current;
  }

  get database(): DatabaseKms | undefined {
    return this.doorway.database;
  }

  get bits(): number {
    return this.service.kms.sealed ? this.roleBits | BIT.sealed : this.roleBits;
  }

  get auditActor(): number {
    return actorOf(this.current);
  }

  get payer(): Bounds {
    if (this.lent === undefined) throw new Error('no frames are there');
    return this.lent;
  }

  get isFinishing(): boolean {
    return this.isBroken || this.isOver || this.isClosed;
  }

  /** For the worker. */
  get told(): Told {
    return { isKnown: this.isKnown, actor: this.current.actor, bits: this.roleBits, place: this.account.place };
  }

  become(identity: Identity): void {
    const account = this.service.accounts.of(identity);
    if (account !== this.account && !this.isClosed) {
      account.join();
      this.account.connections--;
      this.account = account;
    }
    if (!this.isKnown && !this.isClosed) this.events.onKnown(this);
    this.current = identity;
    this.roleBits = this.service.policy.bitsOf(identity);
    // Before the answer to its hello: what comes after that finds it told.
    if (!this.isClosed) this.post({ kind: 'told', connection: this.number, told: this.told });
  }

  finish(isOver = false): void {
    // What the worker has passed on, or yet will until it hears of this, was asked by somebody who may not any more.
    if (isOver) this.isOver = true;
    this.post({ kind: 'finish', connection: this.number });
  }

  destroy(): void {
    this.post({ kind: 'destroy', connection: this.number });
  }

  /** Its worker looks after its time. */
  sweep(): void {
    this.endIfDone();
  }

  endIfDone(): void {
    if (this.doorway.isLost) this.finish();
  }

  breakOff(error: KmsError): void {
    this.isBroken = true;
    // What came before it is answered before it: whoever reads why its connection ends reads no further.
    this.dispatch.flush();
    const detail = error.message.slice(ERROR_TABLE[error.code].message.length + ': '.length);
    this.post({ kind: 'breakOff', connection: this.number, code: error.code, detail });
  }

  /** What the native core has left of a chunk. */
  take(word: Extract<Word, { kind: 'frames' }>): void {
    const { place, bytes, frames } = word;
    const all = frames.reduce((sum, [, length]) => sum + length, 0);
    const lent = new Lent(place, frames.length, all, this.dispatch);
    this.lent = lent;
    try {
      this.settle(Buffer.from(bytes), frames);
    } catch (error) {
      // One peer's must not touch the others.
      this.service.log('error', 'connection_failed', { actor: this.current.actor, ...errorFields(error) });
      this.destroy();
    }
    // What was not begun is over.
    if (lent.begun < frames.length) lent.end(frames.length - lent.begun);
  }

  /** As `Connection.settle`: what needs a key that is at hand is served in this step, the rest waits. */
  private settle(input: Buffer, frames: readonly Lying[]): void {
    const { vault } = this.doorway;
    for (const [index, [start, length, why]] of frames.entries()) {
      report.set([start + FRAME_HEADER_BYTES, length - FRAME_HEADER_BYTES, why], REPORT.first + index * DEFERRED_FIELDS);
    }
    report[REPORT.deferred] = frames.length;
    const missing = this.isFinishing || this.bits >>> POLICY_SHIFT !== 0 ? 0 : misses.take(vault, input);
    const left = this.deferred(input);
    misses.serve(vault, this.bits, this.auditActor, input, missing, this.dispatch, () => left.push(...this.deferred(input)));
    // The others are those of whom waits for them.
    const waiting = new Set(left.map(([frame]) => frame.byteOffset - input.byteOffset));
    for (const [start, length] of frames) if (!waiting.has(start)) input.fill(0, start, start + length);
    this.requests.takeAll(left);
    if (missing > 0) this.dispatch.flushSoon();
  }

  /** The frames that the report names, where they lie. */
  private deferred(input: Buffer): Deferred[] {
    return Array.from({ length: report[REPORT.deferred]! }, (_, index): Deferred => {
      const field = REPORT.first + index * DEFERRED_FIELDS;
      const start = report[field]! - FRAME_HEADER_BYTES;
      return [input.subarray(start, start + report[field + 1]! + FRAME_HEADER_BYTES), report[field + 2]!];
    });
  }

  serveAgain(frame: Buffer): number | undefined {
    while ((this.walk(frame) & FLAG.outputFull) !== 0) this.dispatch.flush();
    if (report[REPORT.deferred]! > 0) return report[REPORT.first + 2]!;
    this.dispatch.flushSoon();
    return undefined;
  }

  private walk(frame: Buffer): number {
    return walk(this.doorway.vault, this.bits | BIT.untimed, this.auditActor, frame, 0, frame.length, NO_LIMIT, this.dispatch);
  }

  /** The worker has closed it, or has ended. */
  closed(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.doorway.end();
    this.dispatch.close();
    this.account.connections--;
    this.events.onClose(this);
  }
}
