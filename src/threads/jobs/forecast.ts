import { withBlocked } from './blocked.js';
import { BATCH, type Forecast, type Job } from './job.js';
import type { Workshop } from './workshop.js';

/** What a job would rewrite: opens all of it, and writes nothing. */
export async function forecast(shop: Workshop, kind: Job['kind'], threadId: string): Promise<Forecast> {
  const { directory, entries, mover } = shop;
  const thread = await directory.record(threadId);
  // After a rotation, no key of today is the thread's.
  const later = kind === 'rotate' && thread.keys ? { ...thread, keys: { ...thread.keys, keyId: '' } } : thread;
  const found: Forecast = { threadId, total: 0, toMove: 0, blockedBy: [] };
  for (let after = ''; ; ) {
    const page = await entries.page(threadId, after, BATCH * 4);
    const needed = page.entries.filter((entry) => mover.needs(kind, later, entry));
    const unmoved = await mover.probe(thread, needed);
    found.total += page.entries.length;
    found.toMove += needed.length - unmoved.length;
    found.blockedBy = withBlocked(found.blockedBy, unmoved);
    if (page.next === undefined) return found;
    after = page.next;
  }
}

/** Entries of a thread: its messages, and the versions of them. */
export async function countEntries({ entries }: Workshop, threadId: string): Promise<number> {
  let total = 0;
  for (let after = ''; ; ) {
    const page = await entries.page(threadId, after, BATCH * 4);
    total += page.entries.length;
    if (page.next === undefined) return total;
    after = page.next;
  }
}
