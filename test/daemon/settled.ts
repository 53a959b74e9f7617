import { setTimeout as delay } from 'node:timers/promises';

/** What other threads bring about has come about; fails the test if it does not within the patience of a slow machine. */
export async function settled(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (let waited = 0; !(await condition()); waited += 5) {
    if (waited > 30_000) throw new Error(`not in 30 s: ${condition}`);
    await delay(5);
  }
}
