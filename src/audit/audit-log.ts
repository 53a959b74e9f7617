import type { ErrorCode } from '../errors.js';

/** What a line of the log can be about; docs/AUDIT.md says when each is written. */
export type AuditType =
  | 'start'
  | 'stop'
  | 'create_dek'
  | 'encrypt'
  | 'decrypt'
  | 'get_wrapped'
  | 'rewrap'
  | 'rotate_kek'
  | 'key_state'
  | 'slot'
  | 'token'
  | 'database'
  | 'import'
  | 'backup'
  | 'restore'
  | 'seal'
  | 'unseal'
  | 'denied'
  | 'checkpoint'
  | 'signing_key'
  | 'recovered';

export interface AuditEvent {
  type: AuditType;
  /** Who did it, as records name it: `uid:1000`. */
  actor: string;
  keyId?: string;
  /** '' for a key without a thread. */
  threadId?: string;
  outcome: 'ok' | ErrorCode;
  /** What is special to the type, under the names of docs/AUDIT.md. Never a key, plaintext, ciphertext, wrapped blob or AAD. */
  detail?: Readonly<Record<string, string | number | boolean | null>>;
}

/** Where a store's events go, one chained line each. */
export interface AuditLog {
  /** Throws AUDIT_UNAVAILABLE while events cannot be written: asked before an administrative operation begins. */
  refuseIfFailed(): void;
  /** Writes one line; it is durable when the promise resolves, which many callers share. AUDIT_UNAVAILABLE if it is not. */
  write(event: AuditEvent): Promise<void>;
  /** Writes one line with the next flush, without anybody waiting for it. */
  note(event: AuditEvent): void;
}

/** For a store that keeps no log. */
export const NO_AUDIT: AuditLog = { refuseIfFailed() {}, async write() {}, note() {} };
