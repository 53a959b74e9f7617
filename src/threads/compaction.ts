import { randomBytes } from 'node:crypto';
import { COMPACTION } from './names.js';
import type { Entry, ThreadStore } from './thread-store.js';

/**
 * Clears what removed and replaced values leave in the bytes of a store. That it is owed is durable in the same change that makes
 * it so, and is forgotten only after a compaction that began later: a crash before or in the middle of one leaves it to the next
 * start, or to whoever settles next.
 */
export class Compaction {
  readonly #store: ThreadStore;

  constructor(store: ThreadStore) {
    this.#store = store;
  }

  /** What belongs into the change after which bytes are left that should not be. */
  owed(): Entry {
    return { key: COMPACTION, value: Buffer.from(randomBytes(16).toString('hex'), 'latin1') };
  }

  /** Durable when it resolves, with whether it was owed. */
  async settle(): Promise<boolean> {
    const [value] = await this.#store.get([COMPACTION]);
    if (value === undefined) return false;
    await this.#store.compact();
    // What somebody came to owe meanwhile has another value, and stays.
    await this.#store.commit([{ expect: [{ key: COMPACTION, value }], put: [], remove: [COMPACTION] }]);
    return true;
  }
}
