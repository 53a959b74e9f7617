import { randomInt } from 'node:crypto';
import type { ExecutionContext } from 'ava';
import fc from 'fast-check';

function seedOf(t: ExecutionContext): number {
  const seed = Number(process.env['TEST_SEED'] ?? randomInt(2 ** 31));
  t.log(`seed ${seed} (TEST_SEED=${seed} runs the same)`);
  return seed;
}

/** Checks a property from a seed that the test prints. */
export function seeded<T>(t: ExecutionContext, property: fc.IProperty<T>, runs = 200): void {
  fc.assert(property, { seed: seedOf(t), numRuns: runs });
  t.pass();
}

export async function seededAsync<T>(t: ExecutionContext, property: fc.IAsyncProperty<T>, runs = 200): Promise<void> {
  await fc.assert(property, { seed: seedOf(t), numRuns: runs });
  t.pass();
}
