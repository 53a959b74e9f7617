import { errorTold } from '../errors.js';
import type { Message } from '../threads/thread.js';

/** Member names as they are in JSON: `threadId` becomes `thread_id`, inside too. Not for what holds a user's JSON. */
export function wireForm(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(wireForm);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => [
      name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      wireForm(member),
    ]),
  );
}

/** The body is the user's, whose names stay as they are. */
export function messageForm({ body, error, ...rest }: Message): object {
  return { ...(wireForm(rest) as object), body, error: error === null ? null : errorTold(error) };
}
