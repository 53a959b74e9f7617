import { type BlockedMessage, MAX_BLOCKED } from './job.js';
import type { Unmoved } from './mover.js';

function blocked({ entry, reason }: Unmoved): BlockedMessage {
  return { messageId: entry.record?.messageId ?? entry.key, reason };
}

/** Each message once, whatever is wrong with its versions; up to 100. */
export function withBlocked(before: readonly BlockedMessage[], unmoved: readonly Unmoved[]): BlockedMessage[] {
  const known = new Map(before.map((one) => [one.messageId, one]));
  for (const one of unmoved.map(blocked)) if (!known.has(one.messageId)) known.set(one.messageId, one);
  return [...known.values()].slice(0, MAX_BLOCKED);
}
