import { glanceOf } from '../store/canonical.js';
import type { PackedRecord, PackedRecords } from '../store/key-store.js';
import type { Opened } from './opened.js';

/** Records that are read, moved and written at once: a transaction's worth, and little enough for others to have their turn between. */
const PAGE = 256;

/** Looks at a page and begins what is to be done with it; resolves to the keys that have to be looked at singly. */
export type BulkStep = (page: PackedRecord[]) => Promise<string[]>;

/**
 * Moves records to the active KEK, and proves that they are the same keys, a page at a time. Whatever is not plain (a record that
 * is damaged, destroyed, or was changed meanwhile) is left to who looks at keys singly and can say why. Crash story: as of
 * `Rewrapping.move`; here backup and record change in one transaction.
 */
export class BulkMoves {
  readonly #opened: Opened;
  readonly #packed: PackedRecords;
  readonly #rotationId: string;

  constructor(opened: Opened, packed: PackedRecords, rotationId: string) {
    this.#opened = opened;
    this.#packed = packed;
    this.#rotationId = rotationId;
  }

  /** Goes over all records; `singly` is given what is left of a page, and how many keys were settled. */
  async walk(step: BulkStep, singly: (keyIds: string[], settled: number) => Promise<void>): Promise<void> {
    let under: Promise<void> = Promise.resolve();
    try {
      for (let after: string | undefined; ; ) {
        const page = this.#packed.page(after, PAGE);
        const left = step(page);
        // While one page is on its way to the disk the next one is moved.
        const before = under;
        under = left.then((keyIds) => singly(keyIds, page.length - keyIds.length));
        under.catch(() => undefined);
        await before;
        if (page.length < PAGE) break;
        after = page.at(-1)?.keyId;
        await new Promise<void>((resolve) => setImmediate(resolve));
      }
    } finally {
      await under;
    }
  }

  async move(page: PackedRecord[]): Promise<string[]> {
    const { vault, keyring, cache } = this.#opened;
    if (page.length === 0) return [];
    return keyring.withKek(async () => {
      const at = new Date().toISOString();
      const left: string[] = [];
      const moves: Array<{ keyId: string; before: Uint8Array; after: Uint8Array }> = [];
      for (const { keyId, bytes } of page) {
        const moved = vault.moveRecord(keyId, bytes, at);
        if (typeof moved !== 'number') moves.push({ keyId, before: bytes, after: moved });
        // One that is destroyed is not among those that are counted.
        else if (moved !== 0 || glanceOf(bytes).state === 'destroyed') left.push(keyId);
      }
      const replaced = await this.#packed.moveMany(this.#rotationId, moves);
      moves.forEach(({ keyId }, index) => {
        if (replaced[index] !== true) left.push(keyId);
        // It says which KEK wraps it; the next use brings it in with the new one.
        else cache.retire(keyId, 'evicted');
      });
      return left;
    }, page.length);
  }

  async verify(page: PackedRecord[]): Promise<string[]> {
    const at = new Date().toISOString();
    return page.filter((record) => !this.#isMoved(record, at)).map(({ keyId }) => keyId);
  }

  /** Under the active KEK, and the same key as its backup. One without a backup was made since the rotation began: it opens. */
  #isMoved({ keyId, bytes }: PackedRecord, at: string): boolean {
    const { vault } = this.#opened;
    if (vault.moveRecord(keyId, bytes, at) !== 0) return false;
    return vault.holdSameKey(bytes, this.#packed.backupSync(this.#rotationId, keyId) ?? bytes) === true;
  }
}
