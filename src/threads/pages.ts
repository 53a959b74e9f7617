import { MAX_PAGE_BYTES, MAX_PAGE_ENTRIES } from '../limits.js';
import type { Entry, RangeQuery, ThreadStore } from './thread-store.js';

export function bytesOf(entries: readonly Entry[]): number {
  return entries.reduce((sum, { value }) => sum + value.length, 0);
}

/** Whether a range has come to one of its bounds, and there may be more. */
export function isFull(found: readonly Entry[], { limit, bytes = Number.POSITIVE_INFINITY }: RangeQuery): boolean {
  return found.length >= limit || bytesOf(found) >= bytes;
}

/** What is beyond an entry, in the direction of the range. */
export function beyond({ from, to, reverse }: RangeQuery, key: string): { from: string; to: string } {
  return reverse ? { from, to: key } : { from: `${key} `, to };
}

/** A range page by page: one of them is in memory at a time, and it is bounded by its bytes. */
export async function* pagesOf(
  store: ThreadStore,
  { from, to, limit = MAX_PAGE_ENTRIES, reverse = false }: Omit<RangeQuery, 'limit' | 'bytes'> & { limit?: number },
): AsyncGenerator<Entry[]> {
  for (let query: RangeQuery = { from, to, limit, bytes: MAX_PAGE_BYTES, reverse }; ; ) {
    const page = await store.range(query);
    yield page;
    const last = page.at(-1);
    if (last === undefined || !isFull(page, query)) return;
    query = { ...query, ...beyond(query, last.key) };
  }
}
