import { setTimeout as sleep } from 'node:timers/promises';
import { KmsError } from '../errors.js';
import { LEADERLESS_LOOK_MS } from '../limits.js';
import type { SharedStore, Watch } from '../store/shared-store.js';
import type { Vault } from '../vault.js';
import type { KeyCache } from './key-cache.js';
import type { Keyring } from './keyring.js';

interface Ground {
  vault: Vault;
  keyring: Keyring;
  cache: KeyCache;
}

/**
 * What keeps this daemon's vault true to a store that others change. A key that is in the vault may be used only as long as the
 * store was heard lately: every sign of life moves the native deadline on, counted from the moment at which it was asked for,
 * once all that had been changed by then is taken over. So a daemon that is cut off, stopped or held up refuses by itself.
 */
export class Sharing {
  readonly store: SharedStore;
  readonly #ground: Ground;
  readonly #watch: Watch;

  private constructor(store: SharedStore, ground: Ground) {
    const { keyring, cache } = ground;
    this.store = store;
    this.#ground = ground;
    // Nothing is served before the store was heard for the first time.
    ground.vault.keepFresh(0);
    this.#watch = store.watch(() => ({ generation: keyring.generation, slotId: keyring.usedSlot }), {
      key: (keyId) => cache.retire(keyId, 'evicted'),
      // What cannot be taken over now is asked for by the next sign of life, which is not believed before.
      keyring: () => void keyring.refresh().catch(() => undefined),
      everything: () => cache.retireAll(),
      upToDate: (askedAt, generation) => this.#upToDate(askedAt, generation),
    });
  }

  /** Resolves when keys may be used. */
  static async begin(store: SharedStore, ground: Ground): Promise<Sharing> {
    const sharing = new Sharing(store, ground);
    try {
      await sharing.#watch.begun;
      return sharing;
    } catch (error) {
      await sharing.stop();
      throw error;
    }
  }

  async #upToDate(askedAt: number, generation: number): Promise<void> {
    const { vault, keyring } = this.#ground;
    if (generation !== keyring.generation) await keyring.refresh();
    vault.keepFresh(askedAt + this.store.staleAfterMs);
  }

  /** Resolves when every daemon that is alive works with this generation of the keyring, or a later one. */
  async everyoneHas(generation: number, signal: AbortSignal): Promise<void> {
    for (;;) {
      const late = (await this.store.peers()).filter((peer) => peer.generation < generation);
      if (late.length === 0) return;
      await sleep(LEADERLESS_LOOK_MS, undefined, { signal });
    }
  }

  /** Throws CONFLICT for a slot that a daemon was opened with: without it that one could not go on. */
  async refuseUsed(slotId: string): Promise<void> {
    const user = (await this.store.peers()).find((peer) => peer.slotId === slotId);
    if (user === undefined) return;
    throw new KmsError(
      'CONFLICT',
      `daemon ${user.daemonId} was opened with this slot; start it with another master key first, or stop it`,
    );
  }

  stop(): Promise<void> {
    return this.#watch.stop();
  }
}
