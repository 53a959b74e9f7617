import type { FileSystem } from './file-system.js';

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

  /** Up to `limit` names after `after`. */
  page(after: string | undefined, limit: number): string[] {
    this.#merge();
    const start = after === undefined ? 0 : this.#firstAfter(after);
    return this.#sorted.slice(start, start + limit);
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

const RECORD_FILE = /^(k_[0-9a-z]{1,64})\.json$/;
/** File times advance in clock ticks (10 ms at most): a change in the tick of the scan would not show as a newer time. */
const TICK_MS = 20;

/**
 * The key ids of a directory. The first page of a listing starts from the directory as it is; later pages go on in that
 * state plus what this store created since, so that a long listing beside steady writes does not sort it for every page.
 */
export class DirectoryNames {
  readonly #system: FileSystem;
  readonly #path: string;
  #names: SortedNames | undefined;
  /** The directory's time at the scan; undefined when a later change might carry the same time. */
  #scannedAt: number | undefined;
  #scanning: Promise<SortedNames> | undefined;
  #createdInScan: string[] = [];

  constructor(system: FileSystem, path: string) {
    this.#system = system;
    this.#path = path;
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
    const ids = (await this.#system.readdir(this.#path)).flatMap((file) => RECORD_FILE.exec(file)?.[1] ?? []);
    const names = new SortedNames(ids);
    for (const keyId of this.#createdInScan) names.add(keyId);
    this.#names = names;
    this.#scannedAt = settled ? mtimeMs : undefined;
    return names;
  }
}
