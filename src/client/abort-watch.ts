import type { Slot } from './slots.js';

/**
 * Whose signal was aborted. One listener per signal, however many requests share it: Node warns of a leak beyond ten, and
 * a listener that outlived its request would be one.
 */
export class AbortWatch {
  private readonly watched = new Map<AbortSignal, { slots: Set<Slot>; listener: () => void }>();

  constructor(private readonly onAbort: (slot: Slot, signal: AbortSignal) => void) {}

  add(signal: AbortSignal, slot: Slot): void {
    const known = this.watched.get(signal);
    if (known !== undefined) {
      known.slots.add(slot);
      return;
    }
    const slots = new Set([slot]);
    const listener = () => {
      this.watched.delete(signal);
      for (const each of slots) this.onAbort(each, signal);
    };
    this.watched.set(signal, { slots, listener });
    signal.addEventListener('abort', listener, { once: true });
  }

  remove(signal: AbortSignal, slot: Slot): void {
    const known = this.watched.get(signal);
    if (known === undefined) return;
    known.slots.delete(slot);
    if (known.slots.size > 0) return;
    this.watched.delete(signal);
    signal.removeEventListener('abort', known.listener);
  }
}
