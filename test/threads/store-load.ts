import type { ThreadStore } from '../../dist/threads/thread-store.js';

/** How many units a caller has committed, by its own count. */
export function counterKey(caller: number): string {
  return `counter:${caller}`;
}

/** Two keys far from each other, of one unit. */
export function halves(caller: number, n: number): string[] {
  return n < 1 ? [] : [`a:${caller}:${n}`, `z:${caller}:${n}`];
}

export function filled(n: number): Uint8Array {
  return Buffer.alloc(200 + (n % 7) * 900, `unit ${n} `);
}

/** What is wrong in the store after `made` (the last acknowledged count of each caller) was told. */
export async function faultsOf(store: ThreadStore, made: ReadonlyMap<number, number>): Promise<string[]> {
  const faults: string[] = [];
  for (const [caller, told] of made) {
    const [counter] = await store.get([counterKey(caller)]);
    const count = counter === undefined ? 0 : Number(Buffer.from(counter).toString());
    // One more may have come to be, of which nobody was told.
    if (count !== told && count !== told + 1) faults.push(`caller ${caller}: ${told} told, ${count} found`);
    for (let n = Math.max(1, count - 50); n <= count; n += 1) {
      const found = await store.get(halves(caller, n));
      if (!found.every((value) => value !== undefined && Buffer.compare(value, filled(n)) === 0))
        faults.push(`caller ${caller}: unit ${n}`);
    }
    for (const half of ['a', 'z']) {
      const rest = await store.range({ from: `${half}:${caller}:`, to: `${half}:${caller};`, limit: 1_000 });
      if (rest.length !== Math.min(count, 51)) faults.push(`caller ${caller}: ${rest.length} of ${half} after ${count}`);
    }
  }
  return faults;
}
