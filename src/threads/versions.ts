import { positionAfter, rangeOf, versionPrefix } from './names.js';
import type { Entry, ThreadStore } from './thread-store.js';

const PAGE = 500;

/** Of bytes that may be anything. */
function threadIn(value: Uint8Array): unknown {
  try {
    return (JSON.parse(Buffer.from(value).toString('utf8')) as { thread?: unknown } | null)?.thread;
  } catch {
    return undefined;
  }
}

/**
 * The versions of a message, the oldest first, page by page. Their keys name the message only, and two processes may have given
 * one id to messages of two threads in the same instant: what says that it is another thread's is left to that one.
 */
export async function* versionsOf(store: ThreadStore, threadId: string, messageId: string): AsyncGenerator<Entry[]> {
  const prefix = versionPrefix(messageId);
  const { from, to } = rangeOf(prefix);
  for (let at = from; ; ) {
    const page = await store.range({ from: at, to, limit: PAGE });
    yield page.filter(({ key, value }) => {
      if (positionAfter(prefix, key) === undefined) return false;
      const named = threadIn(value);
      return typeof named !== 'string' || named === threadId;
    });
    const last = page.at(-1);
    if (last === undefined || page.length < PAGE) return;
    at = `${last.key} `;
  }
}
