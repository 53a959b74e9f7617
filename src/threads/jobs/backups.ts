import { asKmsError, KmsError } from '../../errors.js';
import { MAX_STORED_VALUE_BYTES } from '../../limits.js';
import type { Provider } from '../../provider.js';
import type { Path } from '../field-policy.js';
import { destroyKey } from '../key-ends.js';
import { BACKUPS, backupKey, EXPIRIES, expiryKey, rangeOf, threadKey } from '../names.js';
import { pagesOf } from '../pages.js';
import { changedThread, readThread } from '../thread-record.js';
import type { Entry, Expectation, ThreadStore, Unit } from '../thread-store.js';
import { backupBytes, type Kept, readBackup } from './backup.js';
import { busyKey } from './job-book.js';
import { digestOf, type Moved } from './mover.js';

/** Keys that are disabled while backups are kept under them, and destroyed with these. */
interface Expiry {
  jobId: string;
  threadId: string;
  keyIds: readonly string[];
  /** Milliseconds since 1970; null while they are being put back, and must not go. */
  at: number | null;
  /** They are going: it is too late to put them back. */
  isGoing?: true;
}

/** Entries that a restore looks at in one go: each may be as long as the store takes. */
const READ_AT_ONCE = 8;

export interface Restored {
  /** Entries that are again what they were before the job. */
  restored: number;
  /** Entries that were changed or deleted after it, and are left as they are. */
  changed: number;
}

export interface Swept {
  /** Whose backups went. */
  jobs: number;
  /** Those whose keys could not be destroyed now: the next sweep tries again. */
  left: Array<{ jobId: string; error: KmsError }>;
}

function parsed<T>(bytes: Uint8Array): T {
  return JSON.parse(Buffer.from(bytes).toString('utf8')) as T;
}

function jsonBytes(value: object): Uint8Array {
  return Buffer.from(JSON.stringify(value), 'utf8');
}

/**
 * What rewritten messages were before: ciphertext, and the key that it is under. The key is disabled first and destroyed last,
 * after its backups are gone; each step may be done again, and the mark that a job's are to go is removed at the very end.
 */
export class Backups {
  readonly #kms: Provider | undefined;
  readonly #store: ThreadStore;
  readonly #now: () => number;

  constructor(kms: Provider | undefined, store: ThreadStore, now: () => number) {
    this.#kms = kms;
    this.#store = store;
    this.#now = now;
  }

  /**
   * What belongs into the change that rewrites an entry. Nothing where the job encrypts what was not encrypted before, as a whole
   * or in part: no plaintext is left behind. Nor where the entry is as long as the store takes, so that its backup would not fit:
   * the thread gets its key all the same.
   */
  of(jobId: string, { entry, value, at }: Moved): Entry[] {
    const before = entry.record.sealing?.at ?? [];
    const wasSealed = (path: Path) => before.some((outer) => outer.every((step, i) => step === path[i]));
    if (at.length === 0 || !at.every(wasSealed)) return [];
    const { threadId } = entry.record;
    const backup = backupBytes({ jobId, threadId, wrote: digestOf(value), value: entry.value });
    return backup.length > MAX_STORED_VALUE_BYTES ? [] : [{ key: backupKey(entry.key), value: backup }];
  }

  /** Removes what other jobs keep of a thread in plain, or may: what was not sealed as `isCovered` asks for. */
  async dropUncovered(jobId: string, threadId: string, isCovered: (value: Uint8Array) => boolean): Promise<void> {
    for await (const page of backupsBelow(this.#store, '')) {
      const over = page.filter(({ backup }) => {
        if (backup.threadId !== threadId || backup.jobId === jobId) return false;
        return !isCovered(backup.value);
      });
      await this.#store.commit(over.map(({ key, value }) => ({ expect: [{ key, value }], put: [], remove: [key] })));
    }
  }

  /** The mark of when a job's backups go, and the keys with them. */
  expiry(jobId: string, threadId: string, keyIds: readonly string[], keepMs: number): Entry {
    const expiry: Expiry = { jobId, threadId, keyIds, at: this.#now() + keepMs };
    return { key: expiryKey(jobId), value: jsonBytes(expiry) };
  }

  /** Whether a job's keys are disabled for as long as its backups stay, and nobody is putting these back. */
  async areKept(jobId: string): Promise<boolean> {
    const [value] = await this.#store.get([expiryKey(jobId)]);
    return value !== undefined && parsed<Expiry>(value).at !== null;
  }

  /** Removes what is over its time, and destroys the keys. One job's that cannot be destroyed hold up no other's. */
  async sweep(): Promise<Swept> {
    const swept: Swept = { jobs: 0, left: [] };
    const due = await this.#claimed();
    if (due.size === 0) return swept;
    for await (const page of backupsBelow(this.#store, '')) {
      const over = page.filter(({ backup }) => due.has(backup.jobId));
      // Where another job puts its own meanwhile, that one stays.
      await this.#store.commit(over.map(({ key, value }) => ({ expect: [{ key, value }], put: [], remove: [key] })));
    }
    for (const expiry of due.values()) {
      const error = await this.#destroyKeys(expiry.keyIds);
      if (error !== undefined) {
        swept.left.push({ jobId: expiry.jobId, error });
        continue;
      }
      await this.#forgetKeys(expiry);
      await this.#store.commit([{ expect: [], put: [], remove: [expiryKey(expiry.jobId)] }]);
      swept.jobs += 1;
    }
    return swept;
  }

  /** Marks what is over its time as going, so that nobody begins to put it back. */
  async #claimed(): Promise<Map<string, Expiry>> {
    const due = new Map<string, Expiry>();
    for await (const { key, value, expiry } of this.#expiries()) {
      if (expiry.at === null || expiry.at > this.#now()) continue;
      // Without the key service the keys could not go, and nobody would know of them any more.
      if (this.#kms === undefined && expiry.keyIds.length > 0) continue;
      const put = [{ key, value: jsonBytes({ ...expiry, isGoing: true }) }];
      const isClaimed = expiry.isGoing || (await this.#store.commit([{ expect: [{ key, value }], put, remove: [] }]))[0];
      if (isClaimed) due.set(expiry.jobId, expiry);
    }
    return due;
  }

  async *#expiries(): AsyncGenerator<Entry & { expiry: Expiry }> {
    for await (const page of pagesOf(this.#store, EXPIRIES)) {
      for (const entry of page) yield { ...entry, expiry: parsed<Expiry>(entry.value) };
    }
  }

  /**
   * Puts back what a job has rewritten, where nobody has changed it since. The keys serve again that this is under. CONFLICT while
   * the thread is busy with a job, which might retire what is put back, and where nothing of the job is left to be put back;
   * after the former, or a crash, it may be done again.
   */
  async restore(jobId: string): Promise<Restored> {
    const mark = expiryKey(jobId);
    const [value] = await this.#store.get([mark]);
    if (value === undefined) throw new KmsError('NOT_FOUND', `backups of job ${jobId}`);
    const before = parsed<Expiry>(value);
    if (before.isGoing) throw new KmsError('CONFLICT', 'the backups are going this moment');
    // What is put back would be under keys that stay disabled, and nobody would know of them any more.
    if (this.#kms === undefined && before.keyIds.length > 0) {
      throw new KmsError('UNSUPPORTED', 'there is no key service to enable the keys that the backups are under');
    }
    // One that was interrupted has put back some already, which are no backups any more.
    if (before.at !== null) {
      const { kept, usable } = await this.#count(jobId);
      if (kept === 0)
        throw new KmsError('CONFLICT', 'it has no backups any more: a later job has replaced them, or there were none');
      // No key is enabled for nothing; what is kept goes in its time.
      if (usable === 0) return { restored: 0, changed: kept };
    }
    const isIdle = { key: busyKey(before.threadId), value: undefined };
    const held = jsonBytes({ ...before, at: null });
    const put = [{ key: mark, value: held }];
    const [isHeld] = await this.#store.commit([{ expect: [{ key: mark, value }, isIdle], put, remove: [] }]);
    if (!isHeld) throw new KmsError('CONFLICT', `thread ${before.threadId} is busy with a job, or the backups are going`);
    for (const keyId of await this.#needed(before)) await this.#kms?.enableKey(keyId);
    const restored: Restored = { restored: 0, changed: 0 };
    for await (const page of backupsBelow(this.#store, '')) {
      await this.#putBack(
        page.filter(({ backup }) => backup.jobId === jobId),
        isIdle,
        restored,
      );
    }
    await this.#store.commit([{ expect: [{ key: mark, value: held }], put: [], remove: [mark] }]);
    return restored;
  }

  /** The backups of a job, and how many of them are of entries that are still as it wrote them. */
  async #count(jobId: string): Promise<{ kept: number; usable: number }> {
    const count = { kept: 0, usable: 0 };
    for await (const page of backupsBelow(this.#store, '')) {
      const own = page.filter(({ backup }) => backup.jobId === jobId);
      const present = await this.#asWritten(own);
      count.kept += own.length;
      count.usable += present.filter((value) => value !== undefined).length;
    }
    return count;
  }

  /**
   * What stands in the places of backups, where it is what the job wrote. What it is else may be any number of times longer than
   * what was kept of it: few are read at once, and none of it stays.
   */
  async #asWritten(kept: readonly Kept[]): Promise<Array<Uint8Array | undefined>> {
    const written: Array<Uint8Array | undefined> = [];
    for (let at = 0; at < kept.length; at += READ_AT_ONCE) {
      const few = kept.slice(at, at + READ_AT_ONCE);
      const present = await this.#store.get(few.map(originalKey));
      for (const [i, { backup }] of few.entries()) {
        const value = present[i];
        written.push(value !== undefined && digestOf(value) === backup.wrote ? value : undefined);
      }
    }
    return written;
  }

  /**
   * Of a job's old keys, those that its backups may be under: not what has gone with the backups of a job before it, nor what still
   * is to go with them, for that job has moved everything off it.
   */
  async #needed({ jobId, threadId, keyIds }: Expiry): Promise<string[]> {
    const [value] = await this.#store.get([threadKey(threadId)]);
    const all = value === undefined ? [] : (readThread(threadId, value).keys?.all ?? []);
    const others = new Set<string>();
    for await (const { expiry } of this.#expiries()) {
      if (expiry.jobId !== jobId && expiry.threadId === threadId) for (const keyId of expiry.keyIds) others.add(keyId);
    }
    return keyIds.filter((keyId) => all.includes(keyId) && !others.has(keyId));
  }

  /** Each change expects the backup, too: a job that began and ended meanwhile has put its own there. */
  async #putBack(page: readonly Kept[], isIdle: Expectation, restored: Restored): Promise<void> {
    const present = await this.#asWritten(page);
    const units: Unit[] = page.map((kept, i) => {
      const { key, value, backup } = kept;
      const written = present[i];
      const expect = [isIdle, { key, value }];
      // What was changed since is newer than its backup, which is of no use any more.
      if (written === undefined) return { expect, put: [], remove: [key] };
      const original = originalKey(kept);
      const put = [{ key: original, value: backup.value }];
      return { expect: [...expect, { key: original, value: written }], put, remove: [key] };
    });
    const made = await this.#store.commit(units);
    for (const [i, unit] of units.entries()) {
      if (made[i] && unit.put.length > 0) restored.restored += 1;
      else if (made[i]) restored.changed += 1;
    }
    const lost = page.filter((_, i) => !made[i]);
    if (lost.length === 0) return;
    const [busy] = await this.#store.get([isIdle.key]);
    if (busy !== undefined) throw new KmsError('CONFLICT', 'a job of the thread has begun: the rest is put back after it');
    const still = await this.#unchanged(lost);
    restored.changed += lost.length - still.length;
    await this.#putBack(still, isIdle, restored);
  }

  async #unchanged(kept: readonly Kept[]): Promise<Kept[]> {
    const still: Kept[] = [];
    for (const one of kept) {
      const [found] = await this.#store.get([one.key]);
      if (found !== undefined && Buffer.compare(found, one.value) === 0) still.push(one);
    }
    return still;
  }

  /** Why the key service did not, if it did not. */
  async #destroyKeys(keyIds: readonly string[]): Promise<KmsError | undefined> {
    try {
      for (const keyId of keyIds) if (this.#kms !== undefined) await destroyKey(this.#kms, keyId);
      return undefined;
    } catch (error) {
      return asKmsError(error);
    }
  }

  async #forgetKeys({ threadId, keyIds }: Expiry): Promise<void> {
    const key = threadKey(threadId);
    for (;;) {
      const [value] = await this.#store.get([key]);
      const record = value === undefined ? undefined : readThread(threadId, value);
      if (value === undefined || record?.keys === undefined) return;
      const keys = { ...record.keys, all: record.keys.all.filter((keyId) => !keyIds.includes(keyId)) };
      const put = [{ key, value: changedThread(record, { keys }) }];
      if ((await this.#store.commit([{ expect: [{ key, value }], put, remove: [] }]))[0]) return;
    }
  }
}

function originalKey({ key }: Kept): string {
  return key.slice(BACKUPS.prefix.length);
}

/** The backups of entries whose keys begin with `prefix`, page by page. */
async function* backupsBelow(store: ThreadStore, prefix: string): AsyncGenerator<Kept[]> {
  for await (const page of pagesOf(store, rangeOf(backupKey(prefix)))) {
    yield page.flatMap((entry) => {
      const backup = readBackup(entry.value);
      return backup === undefined ? [] : [{ ...entry, backup }];
    });
  }
}
