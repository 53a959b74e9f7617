import { join } from 'node:path';
import { errnoOf, type FileSystem } from './file-system.js';

/** Key ids in ascending order of code units, which grows without being sorted anew for every page. */
export class SortedNames {
  #sorted: string[];
  #added: string[] = [];

  constructor(names: string[] = []) {
    this.#sorted = names.sort();
  }

  add(name: string): void {
    this.#added.push(name);
  }

  remove(name: string): void {
    this.#merge();
    const at = this.#firstAfter(name) - 1;
    if (this.#sorted[at] === name) this.#sorted = this.#sorted.toSpliced(at, 1);
  }

  /** Up to `limit` names after `after`. */
  page(after: string | undefined, limit: number): string[] {
    this.#merge();
    const start = after === undefined ? 0 : this.#firstAfter(after);
    return this.#sorted.slice(start, start + limit);
  }

  /** Those that are not in `names`. */
  without(names: ReadonlySet<string>): string[] {
    this.#merge();
    return this.#sorted.filter((name) => !names.has(name));
  }

  /** One pass over both; a name that is in both (listed while it was made) stays once. */
  #merge(): void {
    if (this.#added.length === 0) return;
    const old = this.#sorted;
    const merged: string[] = [];
    let at = 0;
    for (const name of this.#added.sort()) {
      while (at < old.length && (old[at] as string) < name) merged.push(old[at++] as string);
      if (old[at] !== name && merged.at(-1) !== name) merged.push(name);
    }
    while (at < old.length) merged.push(old[at++] as string);
    this.#sorted = merged;
    this.#added = [];
  }

  #firstAfter(name: string): number {
    let low = 0;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#sorted[middle] as string) <= name) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Which files of a directory are listed, and under which names. */
export interface Form {
  /** The name is its first group. */
  pattern: RegExp;
  fileOf(name: string): string;
}

const RECORDS: Form = { pattern: /^(k_[0-9a-z]{1,64})\.json$/, fileOf: (keyId) => `${keyId}.json` };
/** File times advance in clock ticks (10 ms at most): a change in the tick of the scan would not show as a newer time. */
const TICK_MS = 20;
/** Files asked for at once. */
const LOOKS_AT_ONCE = 32;

/**
 * The key ids of a directory. The first page of a listing starts from the directory as it is; later pages go on in that
 * state plus what this store created since, so that a long listing beside steady writes does not sort it for every page.
 */
export class DirectoryNames {
  readonly #system: FileSystem;
  readonly #path: string;
  readonly #form: Form;
  #names: SortedNames | undefined;
  /** The directory's time at the scan; undefined when a later change might carry the same time. */
  #scannedAt: number | undefined;
  #scanning: Promise<SortedNames> | undefined;
  #createdInScan: string[] = [];

  constructor(system: FileSystem, path: string, form: Form = RECORDS) {
    this.#system = system;
    this.#path = path;
    this.#form = form;
  }

  created(keyId: string): void {
    this.#names?.add(keyId);
    if (this.#scanning !== undefined) this.#createdInScan.push(keyId);
  }

  async page(after: string | undefined, limit: number): Promise<string[]> {
    const names = this.#names !== undefined && after !== undefined ? this.#names : await this.#fresh();
    return names.page(after, limit);
  }

  async #fresh(): Promise<SortedNames> {
    if (this.#names !== undefined && this.#scannedAt !== undefined) {
      if ((await this.#system.stat(this.#path)).mtimeMs === this.#scannedAt) return this.#names;
    }
    this.#scanning ??= this.#scan().finally(() => {
      this.#scanning = undefined;
      this.#createdInScan = [];
    });
    return this.#scanning;
  }

  async #scan(): Promise<SortedNames> {
    // The time is taken before the names: a change between the two only makes the next listing scan again.
    const { mtimeMs } = await this.#system.stat(this.#path);
    const settled = mtimeMs < Date.now() - TICK_MS;
    const ids = (await this.#system.readdir(this.#path)).flatMap((file) => this.#form.pattern.exec(file)?.[1] ?? []);
    const names = new SortedNames(ids);
    for (const keyId of await this.#passedOver(new Set(ids))) names.add(keyId);
    for (const keyId of this.#createdInScan) names.add(keyId);
    this.#names = names;
    this.#scannedAt = settled ? mtimeMs : undefined;
    return names;
  }

  /**
   * Names of before that a scan did not find, and that are there all the same. A file that is replaced while a directory is read
   * may show neither as it was nor as it is (POSIX leaves it open; tmpfs and btrfs do so): a rotation that went by the scan alone
   * could take a key's KEK away. The first scan is that of the opening, when nothing is replaced yet.
   */
  async #passedOver(found: ReadonlySet<string>): Promise<string[]> {
    const missing = this.#names?.without(found) ?? [];
    const there: string[] = [];
    for (let at = 0; at < missing.length; at += LOOKS_AT_ONCE) {
      const some = missing.slice(at, at + LOOKS_AT_ONCE);
      const isThere = await Promise.all(some.map((keyId) => this.#isThere(keyId)));
      there.push(...some.filter((_, index) => isThere[index]));
    }
    return there;
  }

  async #isThere(keyId: string): Promise<boolean> {
    try {
      await this.#system.lstat(join(this.#path, this.#form.fileOf(keyId)));
      return true;
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return false;
      throw error;
    }
  }
}
