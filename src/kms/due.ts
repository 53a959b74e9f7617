import { KEK_DUE_WRAPS } from '../limits.js';
import type { KeyringKek } from '../store/key-store.js';

const DAY_MS = 24 * 3_600_000;

/** Why the KEK should be succeeded, null while it need not. `dueDays` is the age for it, 0 for none. */
export function dueReason({ createdAt, wrapsReserved }: KeyringKek, now: number, dueDays: number): string | null {
  const days = Math.floor((now - Date.parse(createdAt)) / DAY_MS);
  if (dueDays > 0 && days >= dueDays) return `the active KEK is ${days} days old`;
  if (wrapsReserved >= KEK_DUE_WRAPS) return `the active KEK has wrapped up to ${wrapsReserved} keys`;
  return null;
}
