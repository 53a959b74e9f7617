import { type ErrorCode, KmsError } from '../errors.js';
import { MAX_FRAME_BYTES, MAX_TIMER_MS } from '../limits.js';
import type { BatchAad, CallOptions } from '../provider.js';
import { FRAME_HEADER_BYTES, MAX_REQUEST_ID, NO_REQUEST, OK, OP, PROTOCOL_VERSION } from '../wire/frames.js';
import { batchFrameBytes, hotFrameBytes, requestIdAt, writeBatchFrame, writeColdFrame, writeHotFrame } from '../wire/hot.js';
import { encodeRequest, errorOfWire } from '../wire/messages.js';
import { MalformedMessage, Reader } from '../wire/reader.js';
import { Inbox } from './inbox.js';
import { Link } from './link.js';
import { Outbox } from './outbox.js';
import { aborted, closed, refusalOf } from './refusals.js';
import { opens, readResults } from './results.js';
import { lost, type Server } from './server.js';
import { KIND, type Kind, MAX_SLOTS, type Slot, SlotTable } from './slots.js';

export interface ConnectionOptions extends Server {
  /** Shown to the server in the hello of each connection. */
  token?: string | undefined;
  /** Of the database that each connection goes into; wiped when this is closed. */
  databaseSecret?: Uint8Array | undefined;
  /** For calls that name none. */
  deadlineMs: number;
  /** The pause before the first attempt to connect again, and what it doubles up to. */
  reconnectMinMs: number;
  reconnectMaxMs: number;
  maxInFlight: number;
  /** What may wait for a server that does not read, or is not there. */
  maxQueuedBytes: number;
}

/** Deadlines are looked at no more often: they are met to within this time. */
const SWEEP_MS = 10;
/** A cold request's id until it has a slot; the largest, so that it is written in the five bytes a slot's id needs. */
const ANY_ID = MAX_REQUEST_ID;
/** No slot has it: their generations begin above the bits of an index. */
const INTRODUCTION_ID = 1;
/** A server that must not be spoken to, or does not let us in: waiting changes nothing about it. */
const LASTING: readonly ErrorCode[] = ['PERMISSION_DENIED', 'UNAUTHENTICATED', 'UNSUPPORTED', 'INVALID_ARGUMENT', 'SEALED'];

// A promise's functions without a closure per request: the executor runs before the constructor returns.
let resolveNew: (value: never) => void;
let rejectNew: (error: Error) => void;
function keepFunctions(resolve: (value: never) => void, reject: (error: Error) => void): void {
  resolveNew = resolve;
  rejectNew = reject;
}

/**
 * Requests over one socket, any number at once. What is asked within one turn of the event loop goes out as one write.
 *
 * A failure of the connection itself is STORE_UNAVAILABLE. A request that was written when the connection broke is
 * rejected and never sent a second time: nobody can tell whether it was done. One that was not yet written waits for the
 * next connection, until its deadline. Connections are made anew when a request needs one, after pauses that double.
 */
export class Connection {
  private readonly slots: SlotTable;
  private readonly outbox = new Outbox();
  private readonly inbox = new Inbox();
  private readonly reader = new Reader();
  private link: Link | undefined;
  /** The link is open: what waits may be written. */
  private isReady = false;
  /** Who waits for the link to become ready, beside the requests. */
  private opening: { opened(): void; failed(error: KmsError): void } | undefined;
  private isIntroducing = false;
  /** What is left to be said before the link is ready. */
  private introductions: Array<() => Buffer> = [];
  private isFlushDue = false;
  private isClosed = false;
  /** Of the newest request, and of the newest that was written. */
  private sequence = 0;
  private written = 0;
  /** Requests whose answers hold plaintext. */
  private openings = 0;
  /** The clock as of this turn's first request: reading it for each would show. */
  private now = 0;
  private sweepAt = Number.POSITIVE_INFINITY;
  private sweepTimer: NodeJS.Timeout | undefined;
  private failures = 0;
  private lastFailure: KmsError | undefined;
  private dialNotBefore = 0;
  private dialTimer: NodeJS.Timeout | undefined;
  private readonly flush = () => this.flushNow();
  private readonly takeFrame = (bytes: Buffer, start: number, end: number) => this.takeAnswer(bytes, start, end);

  constructor(private readonly options: ConnectionOptions) {
    const onAbort = (slot: Slot, signal: AbortSignal) => this.giveUp(slot, aborted(signal));
    this.slots = new SlotTable(Math.min(options.maxInFlight, MAX_SLOTS), onAbort);
  }

  /** Connects now rather than with the first request. Rejects with why the one attempt failed. */
  open(): Promise<void> {
    return new Promise((opened, failed) => {
      this.opening = { opened, failed };
      this.dial();
    });
  }

  /** Ops 2 and 3. The arguments have been checked. */
  callHot<T>(
    kind: Kind,
    op: number,
    keyId: string | undefined,
    data: Uint8Array,
    aad: Uint8Array | undefined,
    options: CallOptions | undefined,
  ): Promise<T> {
    const size = hotFrameBytes(data, aad);
    this.admit(size);
    const promise = new Promise<T>(keepFunctions);
    const slot = this.begin(kind, options);
    if (slot === undefined) return promise;
    const slab = this.outbox.reserve(size);
    const end = writeHotFrame(slab.bytes, slab.used, slot.id, op, keyId, data, aad);
    this.outbox.commit(slab, end, kind !== KIND.opened);
    return promise;
  }

  /** Ops 4 and 5. The arguments have been checked. */
  callBatch<T>(
    kind: Kind,
    op: number,
    keyId: string,
    items: readonly Uint8Array[],
    aad: BatchAad,
    options: CallOptions | undefined,
  ): Promise<T> {
    const size = batchFrameBytes(items, aad);
    this.admit(size);
    const promise = new Promise<T>(keepFunctions);
    const slot = this.begin(kind, options);
    if (slot === undefined) return promise;
    const slab = this.outbox.reserve(size);
    const end = writeBatchFrame(slab.bytes, slab.used, slot.id, op, keyId, items, aad);
    this.outbox.commit(slab, end, kind === KIND.sealedItems);
    return promise;
  }

  /** Every other op; resolves to the results, whose types nobody has checked. */
  call(op: number, args: readonly unknown[], options: CallOptions | undefined): Promise<unknown[]> {
    return this.begun(KIND.results, encodeRequest(ANY_ID, op, args), options);
  }

  private begun<T>(kind: Kind, frame: Buffer, options: CallOptions | undefined): Promise<T> {
    this.admit(frame.length);
    const promise = new Promise<T>(keepFunctions);
    const slot = this.begin(kind, options);
    if (slot === undefined) return promise;
    const slab = this.outbox.reserve(frame.length);
    this.outbox.commit(slab, writeColdFrame(slab.bytes, slab.used, slot.id, frame), true);
    return promise;
  }

  /** An op without arguments that answers one binary, which does not stay in what was read. */
  callForSecret(op: number, options: CallOptions | undefined): Promise<Uint8Array> {
    return this.begun(KIND.secret, encodeRequest(ANY_ID, op, []), options);
  }

  /** Rejects what is under way. Every later call is refused. */
  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.options.databaseSecret?.fill(0);
    clearTimeout(this.dialTimer);
    clearTimeout(this.sweepTimer);
    this.detach();
    this.opening?.failed(closed());
    this.failAll(closed());
  }

  /** Throws the refusals that need no slot. */
  private admit(size: number): void {
    if (this.isClosed) throw closed();
    if (size > MAX_FRAME_BYTES + FRAME_HEADER_BYTES) throw new KmsError('TOO_LARGE', `a request of ${size} bytes`);
    const { outbox } = this;
    if (outbox.bytes > 0 && outbox.bytes + size > this.options.maxQueuedBytes) {
      throw new KmsError('BUSY', `${outbox.bytes} bytes wait to be written`);
    }
  }

  /** A slot for the promise just made, or undefined when that was rejected instead. */
  private begin(kind: Kind, options: CallOptions | undefined): Slot | undefined {
    let deadlineMs = this.options.deadlineMs;
    let signal: AbortSignal | undefined;
    // Callers without types say null for "none".
    if (options !== undefined && options !== null) {
      if (options.deadlineMs !== undefined) deadlineMs = options.deadlineMs;
      signal = options.signal;
      const refusal = refusalOf(deadlineMs, signal);
      if (refusal !== undefined) {
        rejectNew(refusal);
        return undefined;
      }
    }
    const slot = this.slots.take();
    if (slot === undefined) {
      rejectNew(new KmsError('BUSY', `${this.options.maxInFlight} requests are under way`));
      return undefined;
    }
    slot.resolve = resolveNew;
    slot.reject = rejectNew;
    slot.kind = kind;
    slot.sequence = ++this.sequence;
    if (opens(kind)) this.openings++;
    if (!this.isFlushDue) {
      this.isFlushDue = true;
      this.now = performance.now();
      process.nextTick(this.flush);
    }
    slot.deadline = this.now + deadlineMs;
    if (slot.deadline < this.sweepAt) this.sweepNoLaterThan(slot.deadline);
    if (signal !== undefined) this.slots.watch(slot, signal);
    return slot;
  }

  private giveUp(slot: Slot, error: KmsError): void {
    const { reject } = slot;
    this.slots.abandon(slot);
    reject(error);
  }

  private release(slot: Slot): void {
    if (opens(slot.kind)) this.openings--;
    this.slots.release(slot);
  }

  // Writing

  private flushNow(): void {
    this.isFlushDue = false;
    if (this.isClosed || this.outbox.isEmpty) return;
    const { link } = this;
    if (link === undefined || !this.isReady) this.dialWhenAllowed();
    // What is asked while the kernel takes no more gathers for the next write.
    else if (!link.isStalled) this.writeWaiting(link);
  }

  /** Whole slabs go out, so that none is filled while it is read. */
  private writeWaiting(link: Link): void {
    const slabs = this.outbox.take();
    this.written = this.sequence;
    const views = slabs.map((slab) => slab.bytes.subarray(0, slab.used));
    link.write(views, () => {
      this.outbox.recycle(slabs);
      if (this.link === link && !this.isFlushDue && !this.outbox.isEmpty) this.flushNow();
    });
  }

  // Reading

  private takeChunk(chunk: Uint8Array): boolean {
    // Counted before: the answers in the chunk are no longer under way after it.
    const mayHoldPlaintext = this.openings > 0;
    try {
      this.inbox.push(chunk, this.takeFrame);
    } catch (error) {
      if (error instanceof MalformedMessage) this.lose(lost(`not the protocol (${error.message})`));
      else this.lose(error instanceof KmsError ? error : new KmsError('INTERNAL', undefined, { cause: error }));
    }
    return mayHoldPlaintext;
  }

  private takeAnswer(bytes: Buffer, start: number, end: number): void {
    const reader = this.reader.open(bytes, start, end);
    const length = reader.arrayLength();
    const id = reader.uint();
    const code = reader.uint();
    const slot = this.slots.find(id);
    if (slot === undefined) {
      this.takeOwnAnswer(id, code, reader);
      return;
    }
    const isWaiting = this.slots.isWaiting(slot);
    const { resolve, reject } = slot;
    if (code === OK) {
      const value = readResults(slot.kind, length - 2, reader, bytes);
      reader.finish();
      if (isWaiting) resolve(value as never);
    } else {
      if (length !== 3) throw new MalformedMessage('an error that is not [id, code, message]');
      const error = errorOfWire(code, reader.string());
      reader.finish();
      if (isWaiting) reject(error);
    }
    this.failures = 0;
    this.release(slot);
  }

  /** What is about the connection itself; it is lost by what is thrown. */
  private takeOwnAnswer(id: number, code: number, reader: Reader): void {
    if (id === INTRODUCTION_ID && this.isIntroducing) {
      if (code !== OK) throw errorOfWire(code, reader.string());
      this.isIntroducing = false;
      if (this.link !== undefined) this.introduceNext(this.link);
      return;
    }
    if (id === NO_REQUEST && code !== OK) throw gaveUp(code, reader.string());
    throw new MalformedMessage('an answer to no request');
  }

  // Connecting

  private dialWhenAllowed(): void {
    if (this.isClosed || this.link !== undefined || this.dialTimer !== undefined) return;
    const pause = this.dialNotBefore - performance.now();
    if (pause <= 0) {
      this.dial();
      return;
    }
    this.dialTimer = setTimeout(() => {
      this.dialTimer = undefined;
      // Those whose callers gave up meanwhile need no connection.
      this.dropAbandoned();
      if (!this.outbox.isEmpty) this.dial();
    }, pause);
  }

  private dial(): void {
    const link = new Link(this.options, {
      onOpen: () => this.introduce(link),
      onChunk: (chunk) => this.takeChunk(chunk),
      onDown: (error) => this.lose(error),
    });
    this.link = link;
  }

  /**
   * Nothing else goes out before the token is accepted and the database is open: requests may overtake one another, and one that
   * came before would be refused, or be carried out outside.
   */
  private introduce(link: Link): void {
    const { token, databaseSecret } = this.options;
    this.introductions = [
      ...(token === undefined ? [] : [() => encodeRequest(INTRODUCTION_ID, OP.hello, [PROTOCOL_VERSION, token])]),
      ...(databaseSecret === undefined ? [] : [() => encodeRequest(INTRODUCTION_ID, OP.openDatabase, [databaseSecret])]),
    ];
    this.introduceNext(link);
  }

  private introduceNext(link: Link): void {
    const frame = this.introductions.shift()?.();
    if (frame === undefined) {
      this.ready();
      return;
    }
    this.isIntroducing = true;
    link.write([frame], () => frame.fill(0));
  }

  private ready(): void {
    this.link?.admit();
    this.isIntroducing = false;
    this.isReady = true;
    this.dropAbandoned();
    this.flushNow();
    this.opening?.opened();
    this.opening = undefined;
  }

  /** The link is of no more use: whoever was written to it is told, the others wait for the next one. */
  private lose(error: KmsError): void {
    this.detach();
    this.lastFailure = error;
    const bound = Math.min(this.options.reconnectMaxMs, this.options.reconnectMinMs * 2 ** Math.min(this.failures, 30));
    this.failures++;
    // With jitter, so that the clients of a daemon that restarts do not come back all at once.
    this.dialNotBefore = performance.now() + bound * (0.5 + Math.random() / 2);
    this.opening?.failed(error);
    this.opening = undefined;
    if (LASTING.includes(error.code)) {
      this.failAll(error);
      return;
    }
    this.slots.each((slot) => {
      if (slot.sequence <= this.written) this.fail(slot, error);
    });
    this.dropAbandoned();
    if (!this.outbox.isEmpty) this.dialWhenAllowed();
  }

  private detach(): void {
    this.link?.end();
    this.link = undefined;
    this.isReady = false;
    this.isIntroducing = false;
    this.inbox.clear();
  }

  private fail(slot: Slot, error: KmsError): void {
    const { reject } = slot;
    const isWaiting = this.slots.isWaiting(slot);
    this.release(slot);
    if (isWaiting) reject(error);
  }

  private failAll(error: KmsError): void {
    this.slots.each((slot) => this.fail(slot, error));
    this.outbox.recycle(this.outbox.take());
  }

  /** Takes requests that were not yet written and that nobody waits for out of the queue, and frees their slots. */
  private dropAbandoned(): void {
    if (this.slots.abandoned === 0) return;
    this.outbox.retain((bytes, start) => {
      const slot = this.slots.find(requestIdAt(bytes, start));
      if (slot === undefined || this.slots.isWaiting(slot)) return true;
      this.release(slot);
      return false;
    });
  }

  // Deadlines

  /** One timer for all: it stands at the earliest deadline, and whoever is due by then is found by going through the slots. */
  private sweepNoLaterThan(deadline: number): void {
    clearTimeout(this.sweepTimer);
    this.sweepAt = deadline;
    const delay = Math.min(Math.max(deadline - performance.now(), 0) + SWEEP_MS / 2, MAX_TIMER_MS);
    this.sweepTimer = setTimeout(() => this.sweep(), delay);
    // The socket, or the pause before the next, keeps the process alive while somebody waits.
    this.sweepTimer.unref();
  }

  private sweep(): void {
    const now = performance.now();
    let next = Number.POSITIVE_INFINITY;
    this.slots.each((slot) => {
      if (!this.slots.isWaiting(slot)) return;
      if (slot.deadline <= now) this.giveUp(slot, this.overdue(slot));
      else if (slot.deadline < next) next = slot.deadline;
    });
    this.sweepAt = Number.POSITIVE_INFINITY;
    if (next < Number.POSITIVE_INFINITY) this.sweepNoLaterThan(Math.max(next, now + SWEEP_MS / 2));
    if (!this.isReady) this.dropAbandoned();
    else if (this.slots.abandoned * 2 > this.options.maxInFlight) this.lose(lost('it does not answer'));
  }

  private overdue(slot: Slot): KmsError {
    const wasWritten = slot.sequence <= this.written;
    return new KmsError('DEADLINE_EXCEEDED', wasWritten || this.isReady ? undefined : this.lastFailure?.message);
  }
}

/** Why the server ends the connection. Whom it does not let in is told so; everything else is as good as a server that is gone. */
function gaveUp(code: number, text: string): KmsError {
  const error = errorOfWire(code, text);
  return error.code === 'UNAUTHENTICATED' ? error : new KmsError('STORE_UNAVAILABLE', `the server gave up: ${text}`);
}
