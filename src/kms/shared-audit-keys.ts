import { type AuditKey, Superseded } from '../store/key-store.js';
import type { SharedStore } from '../store/shared-store.js';
import type { Handle } from '../vault.js';
import type { Keyring } from './keyring.js';

/**
 * The keys that sign the audit log of this daemon, where each has a log of its own: wrapped under the root key like those in a
 * keyring, in rows of their own. With another root key they are all wrapped anew, in the transaction that brings it.
 */
export class SharedAuditKeys {
  readonly #keyring: Keyring;
  readonly #store: SharedStore;
  #keys: AuditKey[];

  private constructor(keyring: Keyring, store: SharedStore, keys: AuditKey[]) {
    this.#keyring = keyring;
    this.#store = store;
    this.#keys = keys;
  }

  /** A root key that came after they were read has them read again: they stand under it by then. */
  static async open(keyring: Keyring, store: SharedStore): Promise<SharedAuditKeys> {
    for (;;) {
      const keys = await store.readAuditKeys();
      if (!(await keyring.refresh())) return new SharedAuditKeys(keyring, store, keys);
    }
  }

  get storeId(): string {
    return this.#keyring.storeId;
  }

  get generation(): number {
    return this.#keyring.generation;
  }

  get auditKeys(): readonly AuditKey[] {
    return this.#keys;
  }

  wrapSigning(signing: Handle, publicKey: Uint8Array): Uint8Array {
    return this.#keyring.wrapSigning(signing, publicKey);
  }

  unwrapSigning(key: AuditKey): Handle {
    return this.#keyring.unwrapSigning(key);
  }

  async setAuditKeys(make: () => AuditKey[]): Promise<void> {
    for (;;) {
      // In one step: what is wrapped under a root key belongs to its generation.
      const { generation } = this;
      const keys = make();
      try {
        await this.#store.writeAuditKeys(keys, generation);
        this.#keys = keys;
        return;
      } catch (error) {
        if (!(error instanceof Superseded) || !(await this.#isNewer(generation))) throw error;
      }
    }
  }

  async #isNewer(generation: number): Promise<boolean> {
    await this.#keyring.refresh();
    return this.generation > generation;
  }
}
