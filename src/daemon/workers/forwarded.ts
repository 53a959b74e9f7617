import { asKmsError, KmsError } from '../../errors.js';
import { MAX_COLD_BYTES, MAX_COLD_IN_FLIGHT } from '../../limits.js';
import { encodeError } from '../../wire/messages.js';
import type { Account } from '../accounts.js';
import type { Connection } from '../connection.js';
import { type Counters, placeOf } from '../counters.js';
import { type Deferred, requestOf } from '../deferred.js';
import type { Waiting } from '../ground.js';
import type { Outlet } from '../outlet.js';
import type { Lying, Order, Settled, Word } from './crossing.js';

/** What a worker's connection leaves to the main thread, all of a chunk at once, until that has settled it. */
export class Forwarded implements Waiting {
  underWay = 0;
  private heldBytes = 0;

  constructor(
    private readonly number: number,
    private readonly connection: Connection,
    private readonly outlet: Outlet,
    private readonly counters: Counters,
    private readonly post: (word: Word, moved: ArrayBuffer[]) => void,
    private readonly settle: (settled: Settled) => void,
  ) {}

  get isFull(): boolean {
    return this.underWay >= MAX_COLD_IN_FLIGHT || this.connection.payer.isFull;
  }

  takeAll(frames: readonly Deferred[]): void {
    const { payer } = this.connection;
    const going = frames.filter((deferred) => this.begin(payer, deferred));
    if (going.length === 0) return;
    const [bytes, lying] = moved(going);
    this.post({ kind: 'frames', connection: this.number, place: payer.place, bytes, frames: lying }, [bytes]);
  }

  /** What the main thread has for the peer, and what it has done with. */
  answered({ bytes, secret, settled }: Extract<Order, { kind: 'answers' }>): void {
    if (bytes !== undefined) this.outlet.append(new Uint8Array(bytes), secret);
    for (const one of settled) {
      this.underWay -= one[1];
      this.heldBytes -= one[2];
      this.settle(one);
    }
    this.connection.endIfDone();
  }

  /** False, and it is answered and wiped, if it is one too many or too large. */
  private begin(payer: Account, deferred: Deferred): boolean {
    const bytes = deferred[0].length;
    if (this.underWay < MAX_COLD_IN_FLIGHT && this.heldBytes + bytes <= MAX_COLD_BYTES && payer.take(bytes)) {
      if (payer.begin()) {
        this.underWay++;
        this.heldBytes += bytes;
        return true;
      }
      payer.give(bytes);
    }
    this.refuse(deferred);
    return false;
  }

  private refuse(deferred: Deferred): void {
    try {
      const { id, op } = requestOf(deferred);
      this.counters.answered('binary', placeOf(op), 'BUSY');
      this.outlet.append(encodeError(id, new KmsError('BUSY')), false);
    } catch (error) {
      this.connection.breakOff(asKmsError(error));
    } finally {
      deferred[0].fill(0);
    }
  }
}

/** Frames in memory that can be given away. One that stands alone is given as it is: it may be a large one. */
function moved(frames: readonly Deferred[]): [bytes: ArrayBuffer, lying: Lying[]] {
  const [[first, reason]] = frames as [Deferred];
  if (frames.length === 1) return [first.buffer as ArrayBuffer, [[first.byteOffset, first.length, reason]]];
  const together = Buffer.from(new ArrayBuffer(frames.reduce((sum, [frame]) => sum + frame.length, 0)));
  let at = 0;
  const lying = frames.map(([frame, why]): Lying => {
    frame.copy(together, at);
    frame.fill(0);
    at += frame.length;
    return [at - frame.length, frame.length, why];
  });
  return [together.buffer as ArrayBuffer, lying];
}
