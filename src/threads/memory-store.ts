import { KmsError } from '../errors.js';
import type { Entry, Expectation, RangeQuery, ThreadStore, Unit } from './thread-store.js';

/** A store of threads that is gone with the process: for tests. */
export function openMemoryThreadStore(): ThreadStore {
  return new MemoryThreadStore();
}

class MemoryThreadStore implements ThreadStore {
  readonly isShared = false;
  readonly #values = new Map<string, Uint8Array>();
  /** In order; undefined after a change of the keys. */
  #keys: string[] | undefined;
  #isClosed = false;

  async get(keys: readonly string[]): Promise<Array<Uint8Array | undefined>> {
    this.#refuseClosed();
    return keys.map((key) => copyOf(this.#values.get(key)));
  }

  async range({ from, to, limit, bytes = Number.POSITIVE_INFINITY, reverse = false }: RangeQuery): Promise<Entry[]> {
    this.#refuseClosed();
    this.#keys ??= [...this.#values.keys()].sort((a, b) => (a < b ? -1 : 1));
    const keys = this.#keys.slice(firstNotBelow(this.#keys, from), firstNotBelow(this.#keys, to));
    if (reverse) keys.reverse();
    const found: Entry[] = [];
    let left = bytes;
    for (const key of keys.slice(0, limit)) {
      if (left <= 0) break;
      const value = copyOf(this.#values.get(key) as Uint8Array);
      left -= value.length;
      found.push({ key, value });
    }
    return found;
  }

  async commit(units: readonly Unit[]): Promise<boolean[]> {
    this.#refuseClosed();
    return units.map(({ expect, put, remove }) => {
      if (!expect.every((one) => this.#holds(one))) return false;
      for (const key of remove) if (this.#values.delete(key)) this.#keys = undefined;
      for (const { key, value } of put) {
        if (!this.#values.has(key)) this.#keys = undefined;
        this.#values.set(key, copyOf(value));
      }
      return true;
    });
  }

  async compact(): Promise<void> {
    this.#refuseClosed();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
  }

  #holds({ key, value }: Expectation): boolean {
    const found = this.#values.get(key);
    return value === undefined ? found === undefined : found !== undefined && Buffer.compare(found, value) === 0;
  }

  #refuseClosed(): void {
    if (this.#isClosed) throw new KmsError('STORE_UNAVAILABLE', 'the store is closed');
  }
}

/** Not `slice`, which of a Buffer gives the same bytes again. */
function copyOf<T extends Uint8Array | undefined>(value: T): T {
  return (value === undefined ? undefined : new Uint8Array(value)) as T;
}

/** The number of keys below `key`. */
function firstNotBelow(keys: readonly string[], key: string): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((keys[middle] as string) < key) low = middle + 1;
    else high = middle;
  }
  return low;
}
