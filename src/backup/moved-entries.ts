import { KmsError } from '../errors.js';
import type { StoredEntries, StoredEntry } from '../store/key-store.js';

/** Entries read, written or removed at once. */
const PAGE = 512;
const RECORD = /^r\/(.*)$/;

interface Pair {
  name: string;
  source?: StoredEntry | undefined;
  target?: StoredEntry | undefined;
}

class Cursor {
  readonly #entries: StoredEntries;
  #page: StoredEntry[] = [];
  #at = 0;
  #last: string | undefined;
  #isOver = false;

  constructor(entries: StoredEntries) {
    this.#entries = entries;
  }

  async peek(): Promise<StoredEntry | undefined> {
    if (this.#at === this.#page.length && !this.#isOver) {
      this.#page = await this.#entries.page(this.#last, PAGE);
      this.#at = 0;
      this.#last = this.#page.at(-1)?.name;
      this.#isOver = this.#page.length < PAGE;
      // A store in a mapped file answers without ever leaving the turn.
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
    return this.#page[this.#at];
  }

  step(): void {
    this.#at += 1;
  }
}

/** Every name that either has, ascending, with what each has under it. */
async function* pairs(source: StoredEntries, target: StoredEntries): AsyncGenerator<Pair> {
  const cursors = [new Cursor(source), new Cursor(target)] as const;
  for (;;) {
    const [of, to] = [await cursors[0].peek(), await cursors[1].peek()];
    if (of === undefined && to === undefined) return;
    const isOf = of !== undefined && (to === undefined || of.name <= to.name);
    const isTo = to !== undefined && (of === undefined || to.name <= of.name);
    if (isOf) cursors[0].step();
    if (isTo) cursors[1].step();
    yield { name: ((isOf ? of : to) as StoredEntry).name, source: isOf ? of : undefined, target: isTo ? to : undefined };
  }
}

function isSame(a: StoredEntry, b: StoredEntry | undefined): boolean {
  return b !== undefined && 'bytes' in a && 'bytes' in b && Buffer.compare(a.bytes, b.bytes) === 0;
}

export interface MovedEntries {
  records: number;
  /** Backups of rotations, their keyrings, and records that were set aside. */
  kept: number;
  /** Those of the kept ones that are damaged already, by name. */
  leftOut: string[];
  written: number;
}

/** Makes the entries of `target` those of `source`. STORE_UNAVAILABLE for a record that is damaged. */
export async function copyEntries(source: StoredEntries, target: StoredEntries, onRecord: () => void): Promise<MovedEntries> {
  const moved: MovedEntries = { records: 0, kept: 0, leftOut: [], written: 0 };
  let put: Array<{ name: string; bytes: Uint8Array }> = [];
  let remove: string[] = [];
  const flush = async () => {
    if (put.length > 0) await target.put(put);
    if (remove.length > 0) await target.remove(remove);
    moved.written += put.length;
    put = [];
    remove = [];
  };
  for await (const { name, source: found, target: there } of pairs(source, target)) {
    if (found !== undefined && 'bytes' in found) {
      if (!isSame(found, there)) put.push(found);
      if (RECORD.test(name)) {
        moved.records += 1;
        onRecord();
      } else moved.kept += 1;
    } else {
      if (found !== undefined) leftOut(moved, found);
      if (there !== undefined) remove.push(name);
    }
    if (put.length + remove.length >= PAGE) await flush();
  }
  await flush();
  return moved;
}

function leftOut(moved: MovedEntries, { name, fault }: { name: string; fault: string }): void {
  const [, keyId] = RECORD.exec(name) ?? [];
  if (keyId !== undefined) throw new KmsError('STORE_UNAVAILABLE', `the record of ${keyId} is damaged: ${fault}`);
  moved.leftOut.push(name);
}

/** Reads all of both back. STORE_UNAVAILABLE unless they are the same, but for what was left out. */
export async function compareEntries(
  source: StoredEntries,
  target: StoredEntries,
  { leftOut }: MovedEntries,
  onRecord: () => void,
): Promise<void> {
  const left = new Set(leftOut);
  for await (const { name, source: found, target: there } of pairs(source, target)) {
    if (found !== undefined && isSame(found, there)) {
      if (RECORD.test(name)) onRecord();
    } else if (!(left.has(name) && there === undefined)) {
      throw new KmsError('STORE_UNAVAILABLE', `${name} is not the same in both stores`);
    }
  }
}
