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
  /** The same for many, in their order. */
  writeAll(events: readonly AuditEvent[]): Promise<void>;
  /** Writes one line with the next flush, without anybody waiting for it. */
  note(event: AuditEvent): void;
}

/** Where data operations of a database are counted until they have their lines: its vault. */
export interface FollowedSpace {
  readonly space: number;
  setDataAudit(mode: 'off' | 'grouped' | 'each', ownActor: string, database?: string): void;
  setDataRefusal(on: boolean): void;
}

/** How a log is doing. */
export interface AuditState {
  /** The last line. */
  seq: number;
  /** Why events cannot be written, null while they can. */
  fault: string | null;
  /** Lines that no forwarder has taken in time, of all forwarders together. */
  notForwarded: number;
}

/** The log of one open store, from its start line to its last one. */
export interface OpenAuditLog extends AuditLog {
  state(): AuditState;
  /** Data operations are refused from the failure of a write on, until one succeeds again. */
  readonly refusesData: boolean;
  /**
   * Resolves when what data operations have done so far is durable. AUDIT_UNAVAILABLE if it is not, unless they are to go on
   * without.
   */
  dataWritten(): Promise<void>;
  /**
   * The last lines: what data operations have done, `event`, a checkpoint. They are made before this returns, so that the keys
   * they need may be wiped then.
   */
  finish(event: AuditEvent): LastLines;
  /** From here on data operations in the space of a database are told as the store's are, under the database's name. */
  follow(vault: FollowedSpace, database: string): void;
  /** What they did so far has its lines when this returns, and the vault may be closed. */
  leave(vault: FollowedSpace): void;
}

/** Neither rejects. */
export interface LastLines {
  /** When nothing is under way to the file any more, and it is closed: before that no other log may be opened on it. */
  closed: Promise<void>;
  /** The same, or once that has taken too long to be waited for. */
  told: Promise<void>;
}

/** For a store that keeps no log. */
export const NO_AUDIT: OpenAuditLog = {
  refuseIfFailed() {},
  async write() {},
  async writeAll() {},
  note() {},
  state: () => ({ seq: 0, fault: null, notForwarded: 0 }),
  refusesData: false,
  async dataWritten() {},
  finish: () => ({ closed: Promise.resolve(), told: Promise.resolve() }),
  follow() {},
  leave() {},
};
