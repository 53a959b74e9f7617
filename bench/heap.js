// What is allocated on the heap of JavaScript: exact while nothing is collected, which room for all that is new sees to.
import { getHeapStatistics } from 'node:v8';

/** Megabytes of new objects that fit before a collection. */
const ROOM = 64;
export const EXACT_HEAP = ['--expose-gc', `--min-semi-space-size=${ROOM}`, `--max-semi-space-size=${ROOM}`];

/** Bytes of everything on the heap, dead objects too. */
export const usedHeap = () => getHeapStatistics().used_heap_size;

/**
 * Bytes per operation. What timers and the compiler allocate now and then comes on top, and nothing takes anything away: of several
 * blocks the one that allocates the fewest counts, less what it takes to `read` `usedHeap()`, which is found the same way.
 */
export async function allocatedPerOperation({ collect, read, run, blocks, operations }) {
  let block = Infinity;
  let reading = Infinity;
  await collect();
  for (let i = 0; i < blocks; i++) {
    const first = await read();
    const before = await read();
    await run(operations);
    block = Math.min(block, (await read()) - before);
    reading = Math.min(reading, before - first);
  }
  return Math.round((block - reading) / operations);
}
