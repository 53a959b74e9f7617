import { asKmsError, type ErrorCode, FAILURES, KmsError } from '../errors.js';
import { MAX_COLD_BYTES, MAX_COLD_IN_FLIGHT } from '../limits.js';
import { binding, DEFERRED, doorbell, NEEDS_AUDIT, NEEDS_USES, NOT_CACHED, NOT_COVERED, POLICY_SHIFT } from '../native.js';
import { FRAME_HEADER_BYTES, OP } from '../wire/frames.js';
import { encodeAnswer, encodeError, type Request } from '../wire/messages.js';
import type { Held } from './buffers.js';
import { placeOf } from './counters.js';
import { type Deferred, keyIdOf, requestOf } from './deferred.js';
import type { Waiting } from './ground.js';
import { errorFields } from './log.js';
import { type Caller, keysOf, perform, type Service } from './operations.js';
import type { Followed } from './watch.js';

/**
 * How often a frame whose key was fetched, or granted uses, is served again. More than one is needed when the key is evicted or
 * its uses are taken by others in between; a frame that never gets its turn is told that it is too much.
 */
const MAX_ROUNDS = 16;
/**
 * After that many rounds beside all others, the rest go one by one: where more keys are wanted at once than may be cached, each
 * fetch would evict what the one before it brought, and nobody would get on.
 */
const MAX_CROWDED_ROUNDS = 2;

/** What bounds the requests of one identity. */
export interface Bounds extends Held {
  readonly isFull: boolean;
  /** False, and nothing is counted, if a request is one too many. */
  begin(): boolean;
  end(): void;
}

/** Where answers go. */
export interface Answers {
  readonly closed: boolean;
  append(frame: Uint8Array, secret: boolean, untold?: boolean): void;
}

/** The connection that the requests came on. */
export interface Asker extends Caller {
  /** Whose part of what there is they take. */
  readonly payer: Bounds;
  /** What the native core has to know of who asks, now. */
  readonly bits: number;
  /** Who asks, in the audit log. */
  readonly auditActor: number;
  /** Whether it has come to its end, so that nothing more is done for it. */
  readonly isFinishing: boolean;
  /** Serves the frame natively; says why it could not be served, undefined if it was. */
  serveAgain(frame: Buffer): number | undefined;
  /** What came on it makes no sense. */
  breakOff(error: KmsError): void;
  /** One request less is under way. */
  endIfDone(): void;
}

/**
 * The requests of one connection that cannot be answered at once: they wait for the disk, the pool, or other work. Bounded
 * by number and bytes; their frames belong to this, and are wiped by it.
 */
export class Requests implements Waiting {
  underWay = 0;
  private heldBytes = 0;

  constructor(
    private readonly service: Service,
    private readonly asker: Asker,
    private readonly outlet: Answers,
    /** The connection's number. */
    private readonly connection: number,
  ) {}

  takeAll(frames: readonly Deferred[]): void {
    for (const deferred of frames) {
      // One of them may have been so broken that nothing after it counts.
      if (this.asker.isFinishing) deferred[0].fill(0);
      else this.take(deferred);
    }
  }

  private take(deferred: Deferred): void {
    const [frame, why] = deferred;
    let request: Request;
    try {
      request = requestOf(deferred);
    } catch (error) {
      frame.fill(0);
      this.asker.breakOff(asKmsError(error));
      return;
    }
    const followed = this.follow(frame, request, why);
    const account = this.asker.payer;
    if (!this.begin(account, frame.length)) {
      frame.fill(0);
      // The native core counts what it serves, and has not served it.
      followed.isCounted = false;
      this.service.watch.note(followed, 'BUSY');
      this.outlet.append(encodeError(request.id, new KmsError('BUSY')), false);
      return;
    }
    this.service.watch.begin(followed);
    void this.answer(frame, request, why, account, followed);
  }

  /** Whether one more would be answered BUSY. */
  get isFull(): boolean {
    return this.underWay >= MAX_COLD_IN_FLIGHT || this.asker.payer.isFull;
  }

  /** False, and nothing is counted, if it is one too many or too large. */
  private begin(account: Bounds, bytes: number): boolean {
    if (this.underWay >= MAX_COLD_IN_FLIGHT || this.heldBytes + bytes > MAX_COLD_BYTES) return false;
    if (!account.take(bytes)) return false;
    if (!account.begin()) {
      account.give(bytes);
      return false;
    }
    this.underWay++;
    this.heldBytes += bytes;
    return true;
  }

  private follow(frame: Buffer, { id, op }: Request, why: number): Followed {
    return {
      surface: 'binary',
      connection: this.connection,
      requestId: id,
      place: placeOf(op),
      actor: this.asker.identity.actor,
      bytes: frame.length,
      begun: performance.now(),
      isCounted: why !== DEFERRED.cold,
    };
  }

  /** Never rejects. */
  private async answer(frame: Buffer, request: Request, why: number, account: Bounds, followed: Followed): Promise<void> {
    let outcome: 'ok' | ErrorCode = 'ok';
    try {
      if (why === DEFERRED.cold) await this.perform(request, followed);
      else await this.serve(frame, request, why);
    } catch (error) {
      const body = frame.subarray(FRAME_HEADER_BYTES);
      const known =
        why === DEFERRED.cold
          ? asKmsError(error)
          : await keysOf(this.service, this.asker).failedFrame(this.asker.auditActor, body, error);
      outcome = known.code;
      followed.isCounted = false;
      this.refuse(request, known, why !== DEFERRED.cold && known.code !== 'AUDIT_UNAVAILABLE');
    } finally {
      this.service.watch.end(followed, outcome);
      frame.fill(0);
      this.underWay--;
      this.heldBytes -= frame.length;
      account.give(frame.length);
      account.end();
      this.asker.endIfDone();
    }
  }

  private async perform({ id, op, args }: Request, followed: Followed): Promise<void> {
    const results = await perform(this.service, this.asker, op, args);
    const opened = op === OP.decrypt || op === OP.decryptMany || op === OP.newDatabase;
    const answer = encodeAnswer(id, results);
    followed.answerBytes = answer.length;
    this.outlet.append(answer, opened);
    if (opened) for (const result of results.flat()) if (result instanceof Uint8Array) result.fill(0);
  }

  /** Brings what the native core lacked, and lets it serve the frame again, until it did. */
  private async serve(frame: Buffer, request: Request, first: number): Promise<void> {
    let why: number | undefined = first;
    for (let round = 0; round < MAX_ROUNDS && why !== undefined; round++) {
      const attempt = (): Promise<number | undefined> => this.attempt(frame, request, why!);
      why = await (round < MAX_CROWDED_ROUNDS ? attempt() : this.service.turnstile.pass(attempt, this.asker.identity.actor));
    }
    if (why !== undefined) throw new KmsError('BUSY');
  }

  /** One round: why it could not be served, undefined if it was or nobody is there any more. */
  private async attempt(frame: Buffer, request: Request, why: number): Promise<number | undefined> {
    const { kms } = this.service;
    const keys = keysOf(this.service, this.asker);
    // Read before anything is waited for: who asks may be another one afterwards, and then its own number is asked about.
    const policy = this.asker.bits >>> POLICY_SHIFT;
    if (policy !== 0) await this.service.policy.checkKey(this.asker.identity, keyIdOf(request), keys);
    if (why === DEFERRED.audit) await kms.dataWritten();
    else if (why === DEFERRED.needsUses) await keys.reserveUses(keyIdOf(request));
    else if (why === DEFERRED.notCached) await keys.fetchKey(keyIdOf(request));
    if (this.outlet.closed) return undefined;
    if (policy !== 0) binding.coverKey(keys.space, keyIdOf(request), policy);
    if (why === DEFERRED.large) return this.serveOnPool(frame);
    const again = this.asker.serveAgain(frame);
    return again === DEFERRED.large ? this.serveOnPool(frame) : again;
  }

  private async serveOnPool(frame: Buffer): Promise<number | undefined> {
    const { kms } = this.service;
    const untold = !kms.refusesData;
    const answer = await binding.serveOnPool(
      keysOf(this.service, this.asker).space,
      this.asker.bits,
      this.asker.auditActor,
      frame.subarray(FRAME_HEADER_BYTES),
    );
    if (doorbell[0] !== 0 || doorbell[1] !== 0) kms.answerDoorbell();
    if (answer === NOT_CACHED) return DEFERRED.notCached;
    if (answer === NEEDS_USES) return DEFERRED.needsUses;
    if (answer === NOT_COVERED) return DEFERRED.notCovered;
    if (answer === NEEDS_AUDIT) return DEFERRED.audit;
    if (typeof answer === 'number') throw new Error(`the pool returned ${answer}`);
    this.outlet.append(answer, true, untold);
    return undefined;
  }

  private refuse({ id, op }: Request, error: KmsError, untold: boolean): void {
    if (FAILURES.has(error.code)) {
      const { actor } = this.asker.identity;
      this.service.failures.note(() => ({ connection: this.connection, request_id: id, op, actor, ...errorFields(error) }));
    }
    this.outlet.append(encodeError(id, error.code === 'INTERNAL' ? new KmsError('INTERNAL') : error), false, untold);
  }
}
