import { KmsError } from '../errors.js';
import { canonicalRecord, dekAad } from '../store/canonical.js';
import { DamagedDocument, type KeyMeta, type RecordBackups } from '../store/key-store.js';
import type { Handle } from '../vault.js';
import type { Opened } from './opened.js';
import type { Change } from './records.js';
import type { ActiveKek } from './ring.js';

/** Under which the backups are kept that a move to this KEK takes. */
export function rotationIdOf(kekVersion: number, kekId: string): string {
  return `r${kekVersion}-${kekId.slice('kek_'.length, 'kek_'.length + 16)}`;
}

/** A record that cannot be moved, or has not been moved rightly: a reason to hold a rotation up, not to give it up. */
export class Unsound extends KmsError {
  readonly reason: string;

  constructor(reason: string) {
    super('STORE_UNAVAILABLE', reason);
    this.reason = reason;
  }
}

/** Moves single keys to the active KEK, and proves that they are the same keys. */
export class Rewrapping {
  readonly #opened: Opened;
  readonly #backups: RecordBackups;

  constructor(opened: Opened, backups: RecordBackups) {
    this.#opened = opened;
    this.#backups = backups;
  }

  /** Of the active KEK. */
  get rotationId(): string {
    const { kekId, kekVersion } = this.#opened.keyring.active;
    return rotationIdOf(kekVersion, kekId);
  }

  #isDone(record: KeyMeta): boolean {
    return record.state === 'destroyed' || record.kekId === this.#opened.keyring.active.kekId;
  }

  /** The DEK of a record. Throws `Unsound` where its KEK is not there. */
  #unwrap(record: KeyMeta): Handle {
    const { vault, keyring } = this.#opened;
    if (!keyring.holds(record.kekId)) throw new Unsound('it names a KEK that the keyring does not hold');
    return vault.unwrap(keyring.kek(record.kekId), record.wrapped, dekAad(record), 'dek');
  }

  #unwrapLive(record: KeyMeta): Handle {
    try {
      return this.#unwrap(record);
    } catch (error) {
      const isOther = error instanceof KmsError && error.code === 'AUTHENTICATION_FAILED';
      throw isOther ? this.#opened.records.reportUnopenable(record.keyId) : error;
    }
  }

  /** Opens a record as the move would, and changes nothing. False for one that needs no move: it is destroyed. */
  async inspect(keyId: string): Promise<boolean> {
    const record = await this.#opened.records.read(keyId);
    if (record.state === 'destroyed') return false;
    this.#opened.vault.release(this.#unwrapLive(record));
    return true;
  }

  /**
   * Moves a key to the active KEK; one that is there already, or destroyed, is answered as it is. Crash story: the backup is
   * durable before the record changes, and the record changes in one write; both KEKs stay until all of that has been verified.
   */
  async move(keyId: string, beforeWrite: () => Promise<void> = async () => {}): Promise<KeyMeta> {
    const { records, keyring, cache } = this.#opened;
    for (let record = await records.read(keyId); ; ) {
      if (this.#isDone(record)) return record;
      await beforeWrite();
      await this.#backups.keep(this.rotationId, keyId);
      const known = record;
      record = await keyring.withKek((kek) => records.update(keyId, this.#moveTo(kek), known));
      // It says which KEK wraps it; the next use brings it in with the new one.
      cache.retire(keyId, 'evicted');
    }
  }

  /** One wrap however often a lost race makes it decide anew: what is moved is the key, which stays. */
  #moveTo(kek: ActiveKek): (record: KeyMeta) => Change | undefined {
    const { vault } = this.#opened;
    let from: Uint8Array | undefined;
    let change: Change | undefined;
    return (record) => {
      if (record.state === 'destroyed' || record.kekId === kek.kekId) return undefined;
      if (from !== undefined && Buffer.compare(from, record.wrapped) === 0) return change;
      const dek = this.#unwrapLive(record);
      try {
        const { kekId, kekVersion } = kek;
        from = record.wrapped;
        change = { kekId, kekVersion, wrapped: vault.wrap(kek.handle, dek, dekAad({ ...record, kekId, kekVersion })) };
        return change;
      } finally {
        vault.release(dek);
      }
    };
  }

  /**
   * Reads a moved key back: the record unwraps under the active KEK to the key that the backup unwraps to under the one before.
   * What has not been moved yet, because it was put back meanwhile, is moved first. Of a destroyed key nothing is kept: a crash
   * may have cut its destruction short.
   */
  async verify(keyId: string): Promise<void> {
    const { vault } = this.#opened;
    const record = await this.move(keyId);
    if (record.state === 'destroyed') return this.#backups.forget(keyId);
    const live = this.#unwrapLive(record);
    try {
      const backup = await this.#backup(keyId);
      // Made since the rotation began, or destroyed since it was read.
      if (backup === undefined || backup.state === 'destroyed') return;
      const before = this.#unwrapBackup(backup);
      try {
        if (!vault.isSame(live, before)) throw new Unsound('it holds another key than its backup');
      } finally {
        vault.release(before);
      }
    } finally {
      vault.release(live);
    }
  }

  async #backup(keyId: string): Promise<KeyMeta | undefined> {
    const { vault, keyring } = this.#opened;
    let backup: KeyMeta | undefined;
    try {
      backup = await this.#backups.read(this.rotationId, keyId);
    } catch (error) {
      throw error instanceof DamagedDocument ? new Unsound(`its backup is damaged: ${error.message}`) : error;
    }
    if (backup !== undefined && !vault.macMatches(keyring.recordMac, canonicalRecord(backup), backup.mac)) {
      throw new Unsound('the authentication code of its backup does not match');
    }
    return backup;
  }

  #unwrapBackup(backup: KeyMeta): Handle {
    try {
      return this.#unwrap(backup);
    } catch (error) {
      const isOther = error instanceof KmsError && error.code === 'AUTHENTICATION_FAILED';
      throw isOther ? new Unsound('the wrapped key of its backup does not open') : error;
    }
  }
}
