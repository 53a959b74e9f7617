import { positionAfter, rangeOf, versionPrefix } from './names.js';
import { pagesOf } from './pages.js';
import type { Entry, ThreadStore } from './thread-store.js';

/** Of bytes that may be anything. */
function threadIn(value: Uint8Array): unknown {
  try {
    return (JSON.parse(Buffer.from(value).toString('utf8')) as { thread?: unknown } | null)?.thread;
  } catch {
    return undefined;
  }
}

/**
 * Of what is found below a message's id, what belongs to the message of this thread. The keys of versions name the message only,
 * and two processes may have given one id to messages of two threads in the same instant: what says that it is another thread's
 * is left to that one.
 */
export function ownVersions(threadId: string, messageId: string, found: readonly Entry[]): Entry[] {
  const prefix = versionPrefix(messageId);
  return found.filter(({ key, value }) => {
    if (positionAfter(prefix, key) === undefined) return false;
    const named = threadIn(value);
    return typeof named !== 'string' || named === threadId;
  });
}

/** The versions of a message, the oldest first, page by page. */
export async function* versionsOf(
  store: ThreadStore,
  threadId: string,
  messageId: string,
  part: { from?: string; limit?: number } = {},
): AsyncGenerator<Entry[]> {
  const range = { ...rangeOf(versionPrefix(messageId)), ...part };
  for await (const page of pagesOf(store, range)) yield ownVersions(threadId, messageId, page);
}
