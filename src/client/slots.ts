import { AbortWatch } from './abort-watch.js';

/** How an answer is read, and so what its promise resolves to. */
export const KIND = { results: 0, encrypted: 1, sealed: 2, opened: 3, sealedItems: 4, openedItems: 5, secret: 6 } as const;
export type Kind = (typeof KIND)[keyof typeof KIND];

const INDEX_BITS = 16;
const INDEX_MASK = (1 << INDEX_BITS) - 1;
const LAST_GENERATION = 0xffff;
export const MAX_SLOTS = 1 << INDEX_BITS;

const FREE = 0;
const WAITING = 1;
const ABANDONED = 2;

function nobody(): void {}

/** One request under way. Kept and used again: a request allocates its promise and nothing else. */
export class Slot {
  state = FREE;
  kind: Kind = KIND.results;
  /** What the request goes by on the wire. */
  id: number;
  /** Counts the requests of the connection: tells which were written when it broke. */
  sequence = 0;
  /** On the clock of `performance.now`. */
  deadline = 0;
  resolve: (value: never) => void = nobody;
  reject: (error: Error) => void = nobody;
  signal: AbortSignal | undefined = undefined;

  constructor(readonly index: number) {
    this.id = (1 << INDEX_BITS) | index;
  }
}

/**
 * The requests under way. The id names a slot and its generation, so that an answer which comes a second time, or for a
 * request of an earlier use of the slot, finds nothing. A request whose caller gave up keeps its slot until its answer
 * comes or the connection ends: the generations can then not come round while an old answer is still on its way.
 */
export class SlotTable {
  private readonly slots: Slot[] = [];
  private readonly free: Slot[] = [];
  private readonly aborts: AbortWatch<Slot>;
  waiting = 0;
  abandoned = 0;

  constructor(
    private readonly limit: number,
    onAbort: (slot: Slot, signal: AbortSignal) => void = nobody,
  ) {
    this.aborts = new AbortWatch(onAbort);
  }

  /** Undefined when all are taken. */
  take(): Slot | undefined {
    let slot = this.free.pop();
    if (slot === undefined) {
      if (this.slots.length >= this.limit) return undefined;
      slot = new Slot(this.slots.length);
      this.slots.push(slot);
    }
    slot.state = WAITING;
    this.waiting++;
    return slot;
  }

  /** The slot of an unanswered request, undefined if `id` is none's. */
  find(id: number): Slot | undefined {
    const slot = this.slots[id & INDEX_MASK];
    return slot !== undefined && slot.id === id && slot.state !== FREE ? slot : undefined;
  }

  isWaiting(slot: Slot): boolean {
    return slot.state === WAITING;
  }

  /** `onAbort` comes if the signal is aborted while the slot is waiting. */
  watch(slot: Slot, signal: AbortSignal): void {
    slot.signal = signal;
    this.aborts.add(signal, slot);
  }

  /** The caller has been told; only the slot waits for the answer. */
  abandon(slot: Slot): void {
    slot.state = ABANDONED;
    this.waiting--;
    this.abandoned++;
    this.forgetCaller(slot);
  }

  release(slot: Slot): void {
    if (slot.state === WAITING) this.waiting--;
    else this.abandoned--;
    slot.state = FREE;
    this.forgetCaller(slot);
    const generation = slot.id >>> INDEX_BITS;
    // Never generation 0: with it, slot 0 would have the id that answers to unreadable requests carry.
    slot.id = (((generation === LAST_GENERATION ? 1 : generation + 1) << INDEX_BITS) | slot.index) >>> 0;
    this.free.push(slot);
  }

  /** Those in use. The callee may release or abandon the slot it is given. */
  each(visit: (slot: Slot) => void): void {
    for (const slot of this.slots) if (slot.state !== FREE) visit(slot);
  }

  private forgetCaller(slot: Slot): void {
    // What a closure holds would else live until the slot's next use.
    slot.resolve = nobody;
    slot.reject = nobody;
    if (slot.signal === undefined) return;
    this.aborts.remove(slot.signal, slot);
    slot.signal = undefined;
  }
}
