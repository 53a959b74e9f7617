import type { ErrorCode, KmsError } from '../errors.js';

/** Of a service or a store that is away, full, overloaded, or waits for somebody to unseal it. */
const PASSING: ReadonlySet<ErrorCode> = new Set([
  'SEALED',
  'BUSY',
  'AUDIT_UNAVAILABLE',
  'STORE_UNAVAILABLE',
  'DEADLINE_EXCEEDED',
]);

/** Whether it says nothing of what was asked: it passes by itself, and the same may then succeed. */
export function isPassing({ code }: KmsError): boolean {
  return PASSING.has(code);
}
