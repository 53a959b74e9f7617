import { MAX_AUDIT_TEXT } from '../limits.js';
import type { AuditEvent } from './audit-log.js';

/** The members of an event after those of every line, as docs/FORMATS.md orders them: JSON without its braces. */
export function membersOf(event: Partial<AuditEvent> & Pick<AuditEvent, 'type' | 'actor'>, generation?: number): string {
  const { type, actor, keyId, threadId, outcome, detail } = event;
  // Put together here: an object made first and stringified costs twice as much.
  let text = `"type":${JSON.stringify(type)},"actor":${JSON.stringify(actor)}`;
  if (keyId !== undefined) text += `,"key_id":${JSON.stringify(keyId)}`;
  if (threadId !== undefined && threadId !== '') text += `,"thread_id":${JSON.stringify(threadId)}`;
  if (outcome !== undefined) text += `,"outcome":${JSON.stringify(outcome)}`;
  if (generation !== undefined) text += `,"generation":${generation}`;
  if (detail === undefined) return text;
  for (const [name, value] of Object.entries(detail)) {
    // No JSON has it: one such member, and the line could not be read.
    if (value !== undefined) text += `,${JSON.stringify(name)}:${JSON.stringify(shortened(value))}`;
  }
  return text;
}

function shortened<T>(value: T): T | string {
  return typeof value === 'string' && value.length > MAX_AUDIT_TEXT ? `${value.slice(0, MAX_AUDIT_TEXT - 1)}…` : value;
}
