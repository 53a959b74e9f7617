import { type Forwarder, type ForwardStats, openForwarder } from './forwarder.js';
import type { ForwardTarget } from './target.js';

/** All receivers of one log, each with a queue of its own: one that is away holds up no other. */
export class Forwarders {
  readonly #all: readonly Forwarder[];

  constructor(targets: readonly ForwardTarget[], authorities?: Buffer) {
    this.#all = targets.map((target) => openForwarder(target, authorities));
  }

  offer(lines: Uint8Array): void {
    for (const forwarder of this.#all) forwarder.offer(lines);
  }

  /** Lines given up so far, of all receivers together. */
  dropped(): number {
    return this.#all.reduce((sum, forwarder) => sum + forwarder.stats().dropped, 0);
  }

  /** In the order of the targets. */
  stats(): ForwardStats[] {
    return this.#all.map((forwarder) => forwarder.stats());
  }

  /** Takes no longer than one of them alone. */
  async close(): Promise<void> {
    await Promise.all(this.#all.map((forwarder) => forwarder.close()));
  }
}
