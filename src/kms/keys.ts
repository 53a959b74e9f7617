import { KmsError } from '../errors.js';
import { FIRST_USES, GLANCE_KEYS, KEY_ID_PATTERN, LIST_SCAN_LIMIT, MAX_LIST_LIMIT } from '../limits.js';
import type { CreatedKey, KeyDescription, KeyPage, KeyState, ListQuery } from '../provider.js';
import { dekAad, glanceOf } from '../store/canonical.js';
import type { KeyMeta, RecordStore } from '../store/key-store.js';
import type { Handle } from '../vault.js';
import { checkThreadId } from './calls.js';
import { newKeyId } from './key-ids.js';
import { keyPages } from './key-walk.js';
import type { KeyGround } from './opened.js';
import type { Change } from './records.js';
import type { ActiveKek } from './ring.js';

const DEFAULT_LIST_LIMIT = 100;
/** Records read at once for a listing. */
const READS_AT_ONCE = 32;

function describe(record: KeyMeta): KeyDescription {
  return {
    keyId: record.keyId,
    threadId: record.threadId === '' ? null : record.threadId,
    alg: record.alg,
    state: record.state,
    version: record.version,
    kekId: record.kekId,
    kekVersion: String(record.kekVersion),
    usesReserved: record.usesReserved,
    createdAt: record.createdAt,
    updatedAt: record.updatedAt,
    createdBy: record.createdBy,
  };
}

function changeTo(state: KeyState, record: KeyMeta): Change | undefined {
  if (record.state === state) return undefined;
  if (record.state === 'destroyed') throw new KmsError('KEY_DESTROYED');
  if (state !== 'destroyed') return { state };
  if (record.state !== 'disabled') throw new KmsError('CONFLICT', 'only a disabled key can be destroyed');
  return { state, wrapped: new Uint8Array(0) };
}

/** What a count needs of keys, and where it goes on. */
export interface Glance {
  keys: Array<Pick<KeyDescription, 'state' | 'createdAt' | 'createdBy'>>;
  next: string | null;
}

interface NewKey {
  keyId: string;
  threadId: string;
  createdBy: string;
  at: string;
}

/** Makes keys, changes their states, lists them: what writes and reads records on purpose. */
export class Keys {
  readonly #opened: KeyGround;
  readonly #store: RecordStore;

  constructor(opened: KeyGround, store: RecordStore) {
    this.#opened = opened;
    this.#store = store;
  }

  /**
   * A new key, durable when it resolves. Crash story: the record, with the first uses already reserved in it, is durable
   * before the key serves or its id is told; a crash before that leaves nothing, or a record that nobody knows.
   */
  async create(threadId: string, createdBy: string, dek = this.#opened.vault.generate('dek')): Promise<CreatedKey> {
    const { vault, keyring, cache } = this.#opened;
    try {
      return await keyring.withKek(async (kek) => {
        const keyId = newKeyId();
        const at = new Date().toISOString();
        cache.expect(keyId);
        try {
          const wrapped = await this.#write(kek, dek, { keyId, threadId, createdBy, at });
          cache.admit(keyId, dek, kek.kekVersion, FIRST_USES);
          return { keyId, wrapped, kekId: kek.kekId, kekVersion: String(kek.kekVersion) };
        } finally {
          cache.unexpect(keyId);
        }
      });
    } catch (error) {
      vault.release(dek);
      throw error;
    }
  }

  /** Resolves to the wrapped key. */
  async #write(kek: ActiveKek, dek: Handle, { at, ...made }: NewKey): Promise<Uint8Array> {
    const { vault, keyring, records } = this.#opened;
    const { kekId, kekVersion } = kek;
    const bound = { ...made, storeId: keyring.storeId, alg: 'A256GCM' as const, createdAt: at, kekId, kekVersion };
    const wrapped = vault.wrap(kek.handle, dek, dekAad(bound));
    const uses = { usesReserved: FIRST_USES, updatedAt: at };
    await records.create({ ...bound, ...uses, format: 1, state: 'active', version: 1, wrapped });
    return wrapped;
  }

  async describe(keyId: string): Promise<KeyDescription> {
    return describe(await this.#opened.records.read(keyId));
  }

  async wrapped(keyId: string): Promise<Uint8Array> {
    const record = await this.#opened.records.read(keyId);
    if (record.state === 'destroyed') throw new KmsError('KEY_DESTROYED');
    return record.wrapped;
  }

  /**
   * Durable first, then wiped: when it resolves, no thread uses the key any more and no restart brings it back. A crash
   * between the two has the new state on disk and no memory that could hold the key.
   */
  async setState(keyId: string, state: KeyState, onlyCreatedBy?: string): Promise<KeyDescription> {
    const decide = (before: KeyMeta) => {
      if (onlyCreatedBy !== undefined && before.createdBy !== onlyCreatedBy) throw new KmsError('PERMISSION_DENIED');
      return changeTo(state, before);
    };
    const change = async () => {
      const record = await this.#opened.records.update(keyId, decide);
      this.#opened.cache.retire(keyId, state === 'active' ? 'evicted' : state);
      return describe(record);
    };
    return state === 'destroyed' ? this.#withoutBackups(keyId, decide, change) : change();
  }

  /**
   * Crash story: the backups go before the record is destroyed, so that no crash leaves in them what the record has given up. What
   * a rotation keeps in between goes afterwards; the rotation cannot end before that, and is resumed by the start after a crash,
   * which removes the backups of every destroyed key that it comes upon.
   */
  async #withoutBackups<T>(keyId: string, decide: (before: KeyMeta) => unknown, destroy: () => Promise<T>): Promise<T> {
    const { keyring, records } = this.#opened;
    const release = keyring.holdRetirement();
    try {
      decide(await records.read(keyId));
      await this.#store.backups.forget(keyId);
      const destroyed = await destroy();
      await this.#store.backups.forget(keyId);
      return destroyed;
    } finally {
      release();
    }
  }

  /** Of all keys, or of those that somebody created. */
  async list(query: ListQuery, createdBy?: string): Promise<KeyPage> {
    const { threadId, cursor, limit = DEFAULT_LIST_LIMIT } = query ?? {};
    if (threadId !== undefined) checkThreadId(threadId);
    if (cursor !== undefined && !KEY_ID_PATTERN.test(cursor)) throw new KmsError('INVALID_ARGUMENT', 'cursor');
    if (!Number.isInteger(limit) || limit < 1 || limit > MAX_LIST_LIMIT) {
      throw new KmsError('INVALID_ARGUMENT', `limit must be from 1 to ${MAX_LIST_LIMIT}`);
    }
    const keys: KeyDescription[] = [];
    let scanned = 0;
    for await (const ids of keyPages(this.#store, READS_AT_ONCE, cursor)) {
      for (const record of await this.#readable(ids)) {
        if (record === undefined || (threadId !== undefined && record.threadId !== threadId)) continue;
        if (createdBy !== undefined && record.createdBy !== createdBy) continue;
        keys.push(describe(record));
        if (keys.length === limit) return { keys, next: record.keyId };
      }
      scanned += ids.length;
      if (scanned >= LIST_SCAN_LIMIT && ids.length === READS_AT_ONCE) return { keys, next: ids.at(-1) ?? null };
    }
    return { keys, next: null };
  }

  /**
   * Some of the keys after `cursor`, for who counts them all. Where records are at hand they are not verified, which would take most
   * of the time, and one that makes no sense is passed over.
   */
  async glance(cursor: string | undefined): Promise<Glance> {
    const { packed } = this.#store;
    if (packed === undefined) return this.list(cursor === undefined ? {} : { cursor });
    const page = packed.page(cursor, GLANCE_KEYS);
    const keys = page.flatMap(({ bytes }) => {
      try {
        return [glanceOf(bytes)];
      } catch {
        return [];
      }
    });
    // All this was done in one turn: others have theirs before the next step.
    await new Promise<void>((resolve) => setImmediate(resolve));
    return { keys, next: page.length < GLANCE_KEYS ? null : (page.at(-1)?.keyId ?? null) };
  }

  /** The records that verify; the others are set aside and show in `health`. */
  #readable(ids: string[]): Promise<Array<KeyMeta | undefined>> {
    return Promise.all(
      ids.map((keyId) =>
        this.#opened.records.read(keyId).catch((error) => {
          const passedOver = error instanceof KmsError && ['STORE_UNAVAILABLE', 'KEY_NOT_FOUND'].includes(error.code);
          if (!passedOver) throw error;
          return undefined;
        }),
      ),
    );
  }

  /** Every record in turn, each opened as a use would open it: the reason why it fails, or null. */
  async *verify(): AsyncGenerator<{ keyId: string; fault: string | null }> {
    for await (const ids of keyPages(this.#store, READS_AT_ONCE)) {
      for (const keyId of ids) yield { keyId, fault: await this.#faultOf(keyId) };
    }
  }

  async #faultOf(keyId: string): Promise<string | null> {
    try {
      const record = await this.#opened.records.read(keyId);
      if (record.state !== 'destroyed') this.#opened.vault.release(this.#unwrap(record));
      return null;
    } catch (error) {
      return error instanceof KmsError ? error.message : 'cannot be read';
    }
  }

  #unwrap(record: KeyMeta): Handle {
    const { vault, keyring, records } = this.#opened;
    try {
      return vault.unwrap(keyring.kek(record.kekId), record.wrapped, dekAad(record), 'dek');
    } catch (error) {
      if (error instanceof KmsError && error.code === 'AUTHENTICATION_FAILED') throw records.reportUnopenable(record.keyId);
      throw error;
    }
  }

  /** The raw bytes of the key that `wrapped` belongs to: for `exposeRawKeys` only. KEY_NOT_FOUND if no record holds it. */
  async unwrapRaw(wrapped: Uint8Array): Promise<{ keyId: string; raw: Uint8Array }> {
    for await (const ids of keyPages(this.#store, READS_AT_ONCE)) {
      const record = (await this.#readable(ids)).find((one) => one !== undefined && Buffer.from(one.wrapped).equals(wrapped));
      if (record !== undefined) return { keyId: record.keyId, raw: this.#exported(record) };
    }
    throw new KmsError('KEY_NOT_FOUND');
  }

  #exported(record: KeyMeta): Uint8Array {
    if (record.state !== 'active') throw new KmsError(record.state === 'disabled' ? 'KEY_DISABLED' : 'KEY_DESTROYED');
    const dek = this.#unwrap(record);
    try {
      return this.#opened.vault.exportDek(dek);
    } finally {
      this.#opened.vault.release(dek);
    }
  }
}
