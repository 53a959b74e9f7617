import type { AuditEvent, AuditLog } from '../audit/audit-log.js';
import { asKmsError } from '../errors.js';

type Told = Partial<Pick<AuditEvent, 'keyId' | 'threadId' | 'detail'>>;

/**
 * Does `work` and writes a line about it, which is durable before the result is given; `tell` adds what the result says. While
 * no line can be written the work is not begun. A crash between the two leaves work that nobody was told of, and no line.
 */
export async function audited<T>(
  audit: AuditLog,
  event: Omit<AuditEvent, 'outcome'>,
  work: () => Promise<T>,
  tell: (result: T) => Told = () => ({}),
): Promise<T> {
  audit.refuseIfFailed();
  let result: T;
  try {
    result = await work();
  } catch (error) {
    tellFailure(audit, { ...event, outcome: asKmsError(error).code });
    throw error;
  }
  await audit.write({ ...event, ...tell(result), outcome: 'ok' });
  return result;
}

/** After a seal there is no line to be had; why the work failed is what the caller has to hear. */
export function tellFailure(audit: AuditLog, event: AuditEvent): void {
  try {
    audit.note(event);
  } catch (error) {
    if (asKmsError(error).code !== 'SEALED') throw error;
  }
}
