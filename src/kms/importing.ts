import type { AuditLog } from '../audit/audit-log.js';
import { KmsError } from '../errors.js';
import { IMPORTED_USES } from '../limits.js';
import { dekAad } from '../store/canonical.js';
import type { KeyMeta } from '../store/key-store.js';
import type { Handle, MasterSource } from '../vault.js';
import type { Opened } from './opened.js';

/** A data key of the original: 60 bytes under its master key itself, without AAD. */
export interface OriginalKey {
  keyId: string;
  /** '' where it belongs to no thread. */
  threadId: string;
  wrapped: Uint8Array;
  /** As records have it. */
  createdAt: string;
}

/** Takes keys of the original over; its master key is in the vault from here to `close`. */
export class Importing {
  readonly audit: AuditLog;
  readonly #opened: Opened;
  readonly #master: Handle;

  constructor(opened: Opened, source: MasterSource, audit: AuditLog) {
    this.audit = audit;
    this.#opened = opened;
    this.#master = opened.vault.readMaster(source);
  }

  close(): void {
    this.#opened.vault.release(this.#master);
  }

  /** Runs `work` with the key unwrapped. AUTHENTICATION_FAILED if the master key is not its. */
  async #with<T>({ wrapped }: OriginalKey, work: (dek: Handle) => Promise<T>): Promise<T> {
    const { vault } = this.#opened;
    const dek = vault.unwrapOriginal(this.#master, wrapped);
    try {
      return await work(dek);
    } finally {
      vault.release(dek);
    }
  }

  /** Whether the key is in the store already, as this very key. CONFLICT if its id is another key's, or was destroyed. */
  async isPresent(key: OriginalKey): Promise<boolean> {
    return this.#with(key, async (dek) => {
      const record = await this.#recordOf(key.keyId);
      if (record !== undefined) this.#refuseUnlessSame(key, record, dek);
      return record !== undefined;
    });
  }

  async #recordOf(keyId: string): Promise<KeyMeta | undefined> {
    try {
      return await this.#opened.records.read(keyId);
    } catch (error) {
      if (error instanceof KmsError && error.code === 'KEY_NOT_FOUND') return undefined;
      throw error;
    }
  }

  #refuseUnlessSame(key: OriginalKey, record: KeyMeta, dek: Handle): void {
    const { vault, keyring } = this.#opened;
    if (record.state === 'destroyed') throw new KmsError('CONFLICT', 'the store has destroyed this key');
    if (record.threadId !== key.threadId) throw new KmsError('CONFLICT', 'the store has this key for another thread');
    const own = vault.unwrap(keyring.kek(record.kekId), record.wrapped, dekAad(record), 'dek');
    try {
      if (!vault.sameKey(own, dek)) throw new KmsError('CONFLICT', 'the store has another key of this id');
    } finally {
      vault.release(own);
    }
  }

  /**
   * Adds the key under its own id, wrapped under the active KEK. Crash story: the record is durable as a whole or not there; an
   * import that is run again finds it present.
   */
  async add(key: OriginalKey, createdBy: string): Promise<void> {
    const { vault, keyring, records } = this.#opened;
    await this.#with(key, (dek) =>
      keyring.withKek(async ({ kekId, kekVersion, handle }) => {
        const { storeId } = keyring;
        const { keyId, threadId, createdAt } = key;
        const bound = { storeId, keyId, threadId, alg: 'A256GCM' as const, createdAt, createdBy, kekId, kekVersion };
        await records.create({
          ...bound,
          format: 1,
          state: 'active',
          version: 1,
          wrapped: vault.wrap(handle, dek, dekAad(bound)),
          usesReserved: IMPORTED_USES,
          updatedAt: new Date().toISOString(),
        });
      }),
    );
  }
}
