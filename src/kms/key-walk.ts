import type { KeyStore } from '../store/key-store.js';

const PAGE = 1_024;
/** A store in memory answers without ever leaving the turn: after so many keys of each worker others get theirs. */
const KEYS_PER_TURN = 16;

/** The ids of all keys after one, page by page. */
export async function* keyPages(store: Pick<KeyStore, 'listKeyIds'>, size = PAGE, first?: string): AsyncGenerator<string[]> {
  for (let after = first; ; ) {
    const page = await store.listKeyIds(after, size);
    yield page;
    if (page.length < size) return;
    after = page.at(-1);
    // A store in memory, or in a mapped file, answers without ever leaving the turn.
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}

async function* allKeys(store: KeyStore): AsyncGenerator<string> {
  for await (const page of keyPages(store)) yield* page;
}

export async function countKeys(store: KeyStore): Promise<number> {
  let count = 0;
  for await (const page of keyPages(store)) count += page.length;
  return count;
}

/** Visits every key, `width` at once. The first visit that fails ends it: those under way finish, and it rejects. */
export async function walkKeys(store: KeyStore, width: number, visit: (keyId: string) => Promise<void>): Promise<void> {
  const keys = allKeys(store);
  let failed = false;
  const worker = async (): Promise<void> => {
    for (let visited = 1; !failed; visited += 1) {
      const next = await keys.next();
      if (next.done) return;
      await visit(next.value).catch((error) => {
        failed = true;
        throw error;
      });
      if (visited % KEYS_PER_TURN === 0) await new Promise<void>((resolve) => setImmediate(resolve));
    }
  };
  const results = await Promise.allSettled(Array.from({ length: width }, worker));
  const fault = results.find((result) => result.status === 'rejected');
  if (fault !== undefined) throw fault.reason;
}
