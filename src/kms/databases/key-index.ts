/** The key ids of an open database by the names of their documents, which only its record key makes out of each other. */
export class KeyIndex {
  readonly #keyIds = new Map<string, string>();
  #sorted: string[] | undefined;

  has(name: string): boolean {
    return this.#keyIds.has(name);
  }

  add(name: string, keyId: string): void {
    if (this.#keyIds.has(name)) return;
    this.#keyIds.set(name, keyId);
    this.#sorted = undefined;
  }

  /** Up to `limit` key ids after `after`, ascending by code unit. */
  page(after: string | undefined, limit: number): string[] {
    this.#sorted ??= [...this.#keyIds.values()].sort();
    const start = after === undefined ? 0 : firstAfter(this.#sorted, after);
    return this.#sorted.slice(start, start + limit);
  }
}

function firstAfter(sorted: readonly string[], after: string): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] as string) <= after) low = middle + 1;
    else high = middle;
  }
  return low;
}
