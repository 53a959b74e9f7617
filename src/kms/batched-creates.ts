import type { AuditEvent, AuditLog } from '../audit/audit-log.js';
import { asKmsError, KmsError } from '../errors.js';
import { FIRST_USES } from '../limits.js';
import type { CreatedKey } from '../provider.js';
import { wrappedOf } from '../store/canonical.js';
import type { PackedRecords } from '../store/key-store.js';
import type { Handle } from '../vault.js';
import { tellFailure } from './audited.js';
import { newKeyIds } from './key-ids.js';
import type { Opened } from './opened.js';
import type { ActiveKek } from './ring.js';

/** Keys made at once: a transaction's worth, whose wraps are counted together. */
const MOST = 1_024;

/** A key that somebody wants. */
interface Wish {
  threadId: string;
  actor: string;
  resolve(key: CreatedKey): void;
  reject(error: unknown): void;
}

/** A key that has been made for it. */
interface Made {
  wish: Wish;
  keyId: string;
  dek: Handle;
  kek: ActiveKek;
  bytes: Uint8Array;
}

/**
 * Makes the keys that are asked for in one turn, or while others are being written, together, where the store takes many at once:
 * waiting for each singly costs more than making it.
 *
 * Crash story: that of `Keys.create` and `audited`, for each key. Its record is durable before it serves, and the line about it before it
 * is told; a crash before that leaves nothing, or a record that nobody knows.
 */
export class BatchedCreates {
  readonly #opened: Opened;
  readonly #packed: PackedRecords;
  readonly #audit: AuditLog;
  #wishes: Wish[] = [];
  #isDue = false;
  #isStoring = false;
  /** Keys whose records are durable, and which are not in the vault yet. */
  readonly #unadmitted: Made[] = [];

  constructor(opened: Opened, packed: PackedRecords, audit: AuditLog) {
    this.#opened = opened;
    this.#packed = packed;
    this.#audit = audit;
  }

  create(threadId: string, actor: string): Promise<CreatedKey> {
    return new Promise((resolve, reject) => {
      this.#wishes.push({ threadId, actor, resolve, reject });
      if (this.#isDue) return;
      this.#isDue = true;
      // When all who are woken in this turn have asked.
      process.nextTick(() => {
        this.#isDue = false;
        this.#begin();
      });
    });
  }

  /** One transaction at a time: who asks meanwhile shares the next one. */
  #begin(): void {
    if (this.#isStoring || this.#wishes.length === 0) return;
    this.#isStoring = true;
    void this.#fulfil(this.#wishes.splice(0, MOST));
  }

  #endStoring(): void {
    this.#isStoring = false;
    this.#begin();
  }

  /** Settles every wish; never rejects. */
  async #fulfil(wishes: readonly Wish[]): Promise<void> {
    let made: Made[] = [];
    try {
      this.#audit.refuseIfFailed();
      try {
        made = await this.#opened.keyring.withKek((kek) => this.#stored(wishes, kek), wishes.length);
      } catch (error) {
        // There was no KEK to be had: nothing was begun.
        for (const wish of wishes) this.#refuse(wish, error);
      }
    } catch (error) {
      for (const { reject } of wishes) reject(error);
    }
    this.#endStoring();
    await this.#told(made);
  }

  /** The keys that are durable and to be admitted. Never rejects: whose key does not come to be has been told why. */
  async #stored(wishes: readonly Wish[], kek: ActiveKek): Promise<Made[]> {
    const { cache } = this.#opened;
    const made = this.#made(wishes, kek);
    for (const { keyId } of made) cache.expect(keyId);
    try {
      const added = await this.#packed.createMany(made);
      const stored = made.filter((one, index) => {
        if (added[index] !== true) this.#giveUp(one, new KmsError('CONFLICT', 'the key id is taken'));
        return added[index] === true;
      });
      this.#unadmitted.push(...stored);
      return stored;
    } catch (error) {
      for (const one of made) this.#giveUp(one, error);
      return [];
    }
  }

  #made(wishes: readonly Wish[], kek: ActiveKek): Made[] {
    const { vault } = this.#opened;
    const at = new Date().toISOString();
    const made: Made[] = [];
    const keyIds = newKeyIds(wishes.length);
    for (const [index, wish] of wishes.entries()) {
      const keyId = keyIds[index] as string;
      let dek: Handle = 0;
      try {
        dek = this.#generated();
        const bytes = vault.makeRecord(dek, keyId, wish.threadId, wish.actor, at, FIRST_USES);
        made.push({ wish, keyId, dek, kek, bytes });
      } catch (error) {
        vault.release(dek);
        this.#refuse(wish, error);
      }
    }
    return made;
  }

  /** No key makes room for another one before it is admitted, and a small arena has not room for those of two transactions. */
  #generated(): Handle {
    const { vault } = this.#opened;
    try {
      return vault.generate('dek');
    } catch (error) {
      if (this.#unadmitted.length === 0) throw error;
      this.#admitAll();
      return vault.generate('dek');
    }
  }

  #giveUp({ wish, keyId, dek }: Made, error: unknown): void {
    const { vault, cache } = this.#opened;
    cache.unexpect(keyId);
    vault.release(dek);
    this.#refuse(wish, error);
  }

  /** Its record is durable, so that a key for which there is no room serves by that. Never throws. */
  #admit({ keyId, dek, kek }: Made): void {
    const { vault, cache } = this.#opened;
    try {
      cache.admit(keyId, dek, kek.kekVersion, FIRST_USES);
    } catch {
      vault.release(dek);
    } finally {
      cache.unexpect(keyId);
    }
  }

  /** A line for each of them, and once they are durable its key for each who asked. Never rejects. */
  async #told(made: readonly Made[]): Promise<void> {
    try {
      const events = made.map(({ wish, keyId }) => eventOf(wish, 'ok', keyId));
      await Promise.all([this.#audit.writeAll(events), this.#admitted()]);
    } catch (error) {
      for (const { wish } of made) wish.reject(error);
      return;
    }
    for (const { wish, keyId, bytes, kek } of made) {
      wish.resolve({ keyId, wrapped: wrappedOf(bytes), kekId: kek.kekId, kekVersion: String(kek.kekVersion) });
    }
  }

  /** Once the lines are on their way to the disk: while it takes them there is nothing else to do. */
  async #admitted(): Promise<void> {
    await new Promise(setImmediate);
    this.#admitAll();
  }

  #admitAll(): void {
    for (const one of this.#unadmitted.splice(0)) this.#admit(one);
  }

  #refuse(wish: Wish, error: unknown): void {
    try {
      tellFailure(this.#audit, eventOf(wish, asKmsError(error).code));
      wish.reject(error);
    } catch (untold) {
      wish.reject(untold);
    }
  }
}

// Spelled out: what is spread together is slow to make and slow to read, 3 µs of a create (measured).
function eventOf({ threadId, actor }: Wish, outcome: AuditEvent['outcome'], keyId?: string): AuditEvent {
  if (keyId === undefined) return { type: 'create_dek', actor, threadId, outcome };
  return { type: 'create_dek', actor, keyId, threadId, outcome };
}
