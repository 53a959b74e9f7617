import type { AuditEvent, AuditLog } from '../../audit/audit-log.js';

/**
 * What the log is told of keys in a database: the database and the key's id, by which its own lines can be found. Never the thread:
 * the log outlives the opening, and is read by who has no secret.
 */
export function auditIn(log: AuditLog, database: string): AuditLog {
  const told = ({ threadId: _sealed, detail, ...event }: AuditEvent): AuditEvent => ({
    ...event,
    detail: { ...detail, database },
  });
  return {
    refuseIfFailed: () => log.refuseIfFailed(),
    write: (event) => log.write(told(event)),
    writeAll: (events) => log.writeAll(events.map(told)),
    note: (event) => log.note(told(event)),
  };
}
