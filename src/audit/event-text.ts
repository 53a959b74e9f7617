import { MAX_AUDIT_TEXT } from '../limits.js';
import type { AuditEvent } from './audit-log.js';

/** The members of an event after those of every line, as docs/FORMATS.md orders them: JSON without its braces. */
export function membersOf(event: Partial<AuditEvent> & Pick<AuditEvent, 'type' | 'actor'>, generation?: number): string {
  const { type, actor, keyId, threadId, outcome, detail } = event;
  const members: Record<string, unknown> = { type, actor };
  if (keyId !== undefined) members['key_id'] = keyId;
  if (threadId !== undefined && threadId !== '') members['thread_id'] = threadId;
  if (outcome !== undefined) members['outcome'] = outcome;
  if (generation !== undefined) members['generation'] = generation;
  for (const [name, value] of Object.entries(detail ?? {})) members[name] = typeof value === 'string' ? shortened(value) : value;
  return JSON.stringify(members).slice(1, -1);
}

function shortened(text: string): string {
  return text.length <= MAX_AUDIT_TEXT ? text : `${text.slice(0, MAX_AUDIT_TEXT - 1)}…`;
}
