import type { Socket } from 'node:net';
import { asKmsError, KmsError } from '../errors.js';
import { ANONYMOUS_FRAME_BYTES, LINGER_MS, SWEEP_INTERVAL_MS } from '../limits.js';
import { BIT, DEFERRED_FIELDS, FLAG, NO_LIMIT, POLICY_SHIFT, REPORT } from '../native.js';
import { FRAME_HEADER_BYTES, NO_REQUEST } from '../wire/frames.js';
import { encodeError } from '../wire/messages.js';
import type { Account } from './accounts.js';
import { PartialFrame, type SharedBuffers } from './buffers.js';
import { OTHER } from './counters.js';
import type { Deferred } from './deferred.js';
import { actorOf, type Ground, type Waiting } from './ground.js';
import { ANONYMOUS, type Identity } from './identity.js';
import { errorFields } from './log.js';
import { Misses } from './misses.js';
import type { DatabaseKms } from './operations.js';
import { Outlet } from './outlet.js';
import { Pace } from './pace.js';
import { openSource, type Source } from './source.js';
import { Stay } from './stay.js';
import { report, walk } from './walk.js';

/** What the connection tells of itself. */
export interface ConnectionEvents {
  /** It was nobody's, and is somebody's from here on. */
  onKnown(connection: Connection): void;
  onClose(connection: Connection): void;
}

/** Makes what the connection's requests wait in. */
export type NewWaiting = (connection: Connection, outlet: Outlet) => Waiting;

const misses = new Misses();

/** One peer on the binary protocol. */
export class Connection {
  readonly surface = 'binary';
  readonly doorway: Stay;
  private current: Identity;
  private account: Account;
  private readonly socket: Socket;
  private readonly outlet: Outlet;
  private readonly requests: Waiting;
  private readonly partial: PartialFrame;
  private readonly pace: Pace;
  private roleBits: number;
  private actor: number;
  /** Sweeps since the unfinished frame began or, while reading was paused, could go on. */
  private partialSweeps = 0;
  /** No more requests are taken; the answers under way still go out. */
  private finishing = false;
  private ended = false;
  private isClosed = false;

  /** Owns the source once it returns; throws before that if the descriptor cannot be used. */
  constructor(
    source: Source,
    private readonly service: Ground,
    private readonly buffers: SharedBuffers,
    identity: Identity,
    private readonly events: ConnectionEvents,
    newWaiting: NewWaiting,
  ) {
    this.current = identity;
    this.doorway = new Stay(service.kms);
    this.account = service.accounts.of(identity);
    this.partial = new PartialFrame(this.account);
    this.roleBits = service.policy.bitsOf(identity);
    this.actor = actorOf(identity);
    this.socket = openSource(source, buffers, (bytes) => this.onBytes(bytes));
    this.outlet = new Outlet(
      this.socket,
      'fd' in source ? source.fd : undefined,
      buffers,
      service.timeouts.writeStallMs,
      () => this.socket.pause(),
      () => this.readOn(),
      service.isStrict ? () => service.kms.dataWritten() : undefined,
    );
    this.pace = new Pace(
      service.accounts.paceOf(identity),
      () => this.socket.pause(),
      () => this.readOn(),
    );
    this.requests = newWaiting(this, this.outlet);
    this.socket.on('error', (error) =>
      service.log('debug', 'connection_error', { actor: this.identity.actor, message: error.message }),
    );
    this.socket.on('end', () => this.finish());
    this.socket.on('timeout', () => {
      service.log('warn', 'peer_does_not_read', { actor: this.identity.actor });
      this.socket.destroy();
    });
    this.socket.on('close', () => this.closed());
    // By its uid it is counted before it comes here.
    this.account.connections++;
  }

  get isKnown(): boolean {
    return this.current !== ANONYMOUS;
  }

  get identity(): Identity {
    return this.current;
  }

  become(identity: Identity): void {
    const account = this.service.accounts.of(identity);
    if (account !== this.account && !this.isClosed) {
      account.join();
      this.account.connections--;
      this.account = account;
      this.partial.held = account;
    }
    if (!this.isClosed) this.pace.become(account);
    if (!this.isKnown && !this.isClosed) this.events.onKnown(this);
    this.current = identity;
    this.roleBits = this.service.policy.bitsOf(identity);
    this.actor = actorOf(identity);
  }

  get database(): DatabaseKms | undefined {
    return this.doorway.database;
  }

  /** What the native core has to know of who asks. */
  get bits(): number {
    return this.service.kms.sealed ? this.roleBits | BIT.sealed : this.roleBits;
  }

  /** Who asks, in the audit log. */
  get auditActor(): number {
    return this.actor;
  }

  /** Whose part of what there is its requests take. */
  get payer(): Account {
    return this.account;
  }

  /** Whether it takes no more requests. */
  get isFinishing(): boolean {
    return this.finishing;
  }

  /** Takes no more requests, answers those under way, then closes. */
  finish(): void {
    if (this.finishing) return;
    this.finishing = true;
    this.partial.clear();
    this.endIfDone();
  }

  destroy(): void {
    this.socket.destroy();
  }

  /** Of what it has read and not served, and of answers that are not sent: for one that is gone, or whose thread ends. */
  wipe(): void {
    this.partial.clear();
    this.outlet.discard();
  }

  /** Called every SWEEP_INTERVAL_MS. */
  sweep(): void {
    if (this.doorway.isLost) this.finish();
    if (this.partial.length === 0 || this.outlet.stalled || this.pace.isHeld) {
      this.partialSweeps = 0;
    } else if (++this.partialSweeps * SWEEP_INTERVAL_MS > this.service.timeouts.frameMs) {
      this.service.log('warn', 'frame_not_finished', { actor: this.identity.actor });
      this.socket.destroy();
    }
  }

  private onBytes(bytes: number): boolean {
    const { input, readStart } = this.buffers;
    const end = readStart + bytes;
    // Nobody may keep a core busy who has not said who it is.
    if (this.isKnown) this.service.spin?.goOn();
    try {
      if (this.finishing) input.fill(0, readStart, end);
      else this.takeChunk(input, readStart, end);
      this.pace.settle(bytes);
    } catch (error) {
      input.fill(0);
      // Nothing a peer sends may end the process; what went wrong here is a defect, and the log names it.
      this.service.log('error', 'connection_failed', { actor: this.identity.actor, ...errorFields(error) });
      this.socket.destroy();
    }
    return bytes < this.buffers.readable.length || this.letOthersIn();
  }

  /** After a full read there is more, and libuv would go on with it, up to 32 times, before it looks at anybody else. */
  private letOthersIn(): boolean {
    setImmediate(() => this.resume());
    return false;
  }

  /** `input[start, end)` was read. Whatever was unfinished before is put together with it. */
  private takeChunk(input: Buffer, start: number, end: number): void {
    const { partial } = this;
    const missing = partial.frameBytes - partial.length;
    if (missing > end - start) {
      // Only kept: looking at a frame each time a piece of it comes would cost its length squared.
      this.keep(input, start, end);
      input.fill(0, start, end);
      return;
    }
    this.partialSweeps = 0;
    let from = start;
    if (partial.frameBytes > this.buffers.readStart) {
      from = start + missing;
      if (this.keep(input, start, from)) {
        const whole = partial.release();
        this.serve(whole, 0, whole.length, true);
      }
      input.fill(0, start, from);
    } else if (partial.length > 0) {
      from = partial.moveBefore(input, start);
    }
    if (!this.finishing) {
      const consumed = this.serve(input, from, end, false);
      if (!this.finishing && consumed < end) this.keep(input, consumed, end);
      from = consumed;
    }
    input.fill(0, from, end);
    this.outlet.flush();
  }

  private keep(input: Buffer, start: number, end: number): boolean {
    try {
      this.partial.append(input, start, end);
      // For a hello nobody needs much room, and nobody else's is taken by who may do no more.
      if (this.current === ANONYMOUS && this.partial.frameBytes > ANONYMOUS_FRAME_BYTES) throw new KmsError('TOO_LARGE');
      return true;
    } catch (error) {
      this.breakOff(asKmsError(error));
      return false;
    }
  }

  /**
   * Serves the frames of `input[start, end)`: one native call unless the answers, or the frames it leaves to us, overflow.
   * Returns where the unfinished frame begins. An `owned` input is one frame of its own, which needs no copy.
   */
  private serve(input: Buffer, start: number, end: number, owned: boolean): number {
    let at = start;
    for (;;) {
      const bits = this.requests.isFull ? this.bits | BIT.full : this.bits;
      const flags = this.walk(input, at, end, bits, this.pace.room());
      this.pace.count(report[REPORT.units]!, report[REPORT.busy]!);
      if ((bits & BIT.client) === 0 && report[REPORT.served]! > 0) this.denied(bits, report[REPORT.served]!);
      const next = report[REPORT.consumed]!;
      const deferred = report[REPORT.deferred]!;
      if (deferred > 0) this.settle(input, bits, owned);
      // The native core wipes the plaintext it serves; what it turns away unread is still there.
      if (owned ? deferred === 0 : this.bits !== BIT.client) input.fill(0, at, next);
      if ((flags & FLAG.protocolError) !== 0) {
        this.service.watch.counters.refused('protocol');
        this.finish();
      }
      if (this.finishing) {
        // What comes after a frame that cannot be read was passed over with it. An owned frame may be a request's by now.
        input.fill(0, owned ? next : at, end);
        return next;
      }
      if ((flags & FLAG.outputFull) === 0) return next;
      if (next === at) throw new Error('the native core makes no progress');
      at = next;
      this.outlet.flush();
    }
  }

  /** Without the role every frame that the native core answered was refused for that. */
  private denied(bits: number, times: number): void {
    if ((bits & BIT.cold) !== 0) return;
    const outcome = (bits & BIT.unknown) === 0 ? 'PERMISSION_DENIED' : 'UNAUTHENTICATED';
    this.service.denials.note({ actor: this.identity.actor, operation: 'encrypt or decrypt', outcome }, times);
  }

  private walk(input: Buffer, start: number, end: number, bits: number, room: number): number {
    return walk(this.doorway.vault, bits, this.actor, input, start, end, room, this.outlet);
  }

  /** What a walk has left: what needs a key that is at hand is served in this step, the rest waits. */
  private settle(input: Buffer, bits: number, owned: boolean): void {
    const { vault } = this.doorway;
    // Whether a narrowed peer may use a key is asked before its record is looked at.
    const missing = owned || bits >>> POLICY_SHIFT !== 0 ? 0 : misses.take(vault, input);
    // Passed on last: one that is broken ends the connection, and what came before it is answered all the same.
    const left = this.deferred(input, owned);
    misses.serve(vault, bits, this.actor, input, missing, this.outlet, () => left.push(...this.deferred(input, owned)));
    if (left.length > 0) this.requests.takeAll(left);
  }

  /** Takes the frames that the report names out of the shared buffer, before anything else can read into it or report. */
  private deferred(input: Buffer, owned: boolean): Deferred[] {
    const count = report[REPORT.deferred]!;
    const taken: Deferred[] = [];
    for (let index = 0; index < count; index++) {
      const field = REPORT.first + index * DEFERRED_FIELDS;
      const start = report[field]! - FRAME_HEADER_BYTES;
      const size = report[field + 1]! + FRAME_HEADER_BYTES;
      taken.push([owned ? input : takeOut(input, start, size), report[field + 2]!]);
    }
    return taken;
  }

  /** Serves a frame again that waited for its key or its uses. Returns why it could not be served now either, or undefined. */
  serveAgain(frame: Buffer): number | undefined {
    // It was counted, and made room for, when it was deferred; its time is taken by who kept it.
    while ((this.walk(frame, 0, frame.length, this.bits | BIT.untimed, NO_LIMIT) & FLAG.outputFull) !== 0) this.outlet.flush();
    if (report[REPORT.deferred]! > 0) return report[REPORT.first + 2]!;
    this.outlet.flushSoon();
    return undefined;
  }

  /** Tells the peer that its stream makes no sense, and ends the connection. */
  breakOff(error: KmsError): void {
    const { counters } = this.service.watch;
    counters.answered(this.surface, OTHER, error.code);
    counters.refused('protocol');
    this.outlet.append(encodeError(NO_REQUEST, error), false);
    this.finish();
  }

  private readOn(): void {
    this.partialSweeps = 0;
    this.resume();
  }

  /** Reading goes on when neither the answers that are not taken nor the rate are against it. */
  private resume(): void {
    if (!this.outlet.stalled && !this.pace.isHeld && !this.socket.destroyed) this.socket.resume();
  }

  endIfDone(): void {
    if (this.doorway.isLost) this.finish();
    if (!this.finishing || this.ended || this.requests.underWay > 0) return;
    this.ended = true;
    this.outlet.end(() => setTimeout(() => this.socket.destroy(), LINGER_MS).unref());
  }

  private closed(): void {
    this.finishing = true;
    this.ended = true;
    this.isClosed = true;
    this.doorway.end();
    this.wipe();
    this.pace.stop();
    this.account.connections--;
    this.events.onClose(this);
  }
}

/** A copy of its own of what is wiped in the shared buffer. */
function takeOut(input: Buffer, start: number, size: number): Buffer {
  // Memory of its own: V8 keeps arrays of up to 64 bytes in its heap, and moves them out when native code asks for them: the
  // copy left behind could not be wiped.
  const frame = Buffer.from(new ArrayBuffer(size));
  input.copy(frame, 0, start, start + size);
  input.fill(0, start, start + size);
  return frame;
}
