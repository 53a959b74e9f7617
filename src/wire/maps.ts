import { KmsError } from '../errors.js';
import type { CreatedKey, Health, KeyDescription, KeyPage, ListQuery, RotationStatus, SlotDescription } from '../provider.js';

/** A key map of docs/PROTOCOL.md. */
export interface KeyMap {
  key_id: string;
  thread_id: string | null;
  alg: string;
  state: string;
  version: number | bigint;
  kek_id: string;
  kek_version: string;
  uses_reserved: number | bigint;
  created_at: string;
  updated_at: string;
  created_by: string;
}

/** What the status map tells of the process, beside the provider's health. */
export interface ProcessStatus {
  version: string;
  pid: number;
  uptimeMs: number;
  connections: number;
  cachedKeys: number;
  dataDir: string;
  /** Undefined while sealed. */
  keys: KeysStatus | undefined;
}

/** What only an open store knows. */
export interface KeysStatus {
  rotation: RotationStatus;
  /** Slots that no start has used yet. */
  pendingSlots: number;
}

/** The status map of docs/PROTOCOL.md. */
export interface StatusMap {
  status: string;
  version: string;
  protection: string;
  pid: number;
  uptime_ms: number | bigint;
  store_fault: string | null;
  audit_fault: string | null;
  damaged_records: Array<{ key_id: string; reason: string }>;
  keys_near_limit: string[];
  connections: number;
  cached_keys: number;
  data_dir: string;
  /** Null while sealed, as what follows. */
  rotation: RotationSummary | null;
  pending_slots: number | null;
}

/** As much of a rotation map as the status has. */
export interface RotationSummary {
  state: string;
  phase: string | null;
  total: number | bigint;
  done: number | bigint;
  due: string | null;
}

/** msgpackr writes a number above 2^32 as a float, which is not a `uint`; a bigint it writes as an integer. */
export function uint(value: number): number | bigint {
  const whole = Math.floor(value);
  return whole > 0xffff_ffff ? BigInt(whole) : whole;
}

export function keyMapOf(key: KeyDescription): KeyMap {
  return {
    key_id: key.keyId,
    thread_id: key.threadId,
    alg: key.alg,
    state: key.state,
    version: uint(key.version),
    kek_id: key.kekId,
    kek_version: key.kekVersion,
    uses_reserved: uint(key.usesReserved),
    created_at: key.createdAt,
    updated_at: key.updatedAt,
    created_by: key.createdBy,
  };
}

export function statusMapOf(health: Health, process: ProcessStatus): StatusMap {
  return {
    status: health.status,
    version: process.version,
    protection: health.protection,
    pid: process.pid,
    uptime_ms: uint(process.uptimeMs),
    store_fault: health.storeFault,
    audit_fault: health.auditFault,
    damaged_records: health.damagedRecords.map(({ keyId, reason }) => ({ key_id: keyId, reason })),
    keys_near_limit: health.keysNearLimit,
    connections: process.connections,
    cached_keys: process.cachedKeys,
    data_dir: process.dataDir,
    rotation: process.keys === undefined ? null : rotationSummaryOf(process.keys.rotation),
    pending_slots: process.keys?.pendingSlots ?? null,
  };
}

/** Whether a start has yet to show that the key is good. Recovery keys are there for a day on which no other is left, and none is to. */
export function awaitsStart({ kind, state }: Pick<SlotDescription, 'kind' | 'state'>): boolean {
  return kind === 'master' && state !== 'active';
}

export function rotationSummaryOf({ state, phase, total, done, due }: RotationStatus): RotationSummary {
  return { state, phase, total: uint(total), done: uint(done), due };
}

/** The results of ops 1 and 11. */
export function resultsOfCreated(key: CreatedKey): unknown[] {
  return [key.keyId, key.wrapped, key.kekId, key.kekVersion];
}

/** The results of op 12. */
export function resultsOfPage(page: KeyPage): unknown[] {
  return [page.keys.map(keyMapOf), page.next];
}

export function mapOfQuery(query: ListQuery): Record<string, unknown> {
  const map: Record<string, unknown> = {};
  if (query.threadId !== undefined) map['thread_id'] = query.threadId;
  if (query.cursor !== undefined) map['cursor'] = query.cursor;
  if (query.limit !== undefined) map['limit'] = query.limit;
  return map;
}

/** A peer's answer that is not what the protocol says: a defect of the peer, so INTERNAL. */
export function unexpected(name: string): KmsError {
  return new KmsError('INTERNAL', `the key service answered without a valid ${name}`);
}

export function memberOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? (value as Record<string, unknown>)[name]
    : undefined;
}

export function textOf(value: unknown, name: string): string {
  if (typeof value !== 'string') throw unexpected(name);
  return value;
}

export function optionalTextOf(value: unknown, name: string): string | null {
  return value === null ? null : textOf(value, name);
}

export function numberOf(value: unknown, name: string): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0) throw unexpected(name);
  return value;
}

export function oneOf<T extends string>(value: unknown, name: string, values: readonly T[]): T {
  const found = values.find((candidate) => candidate === value);
  if (found === undefined) throw unexpected(name);
  return found;
}

export function listOf(value: unknown, name: string): unknown[] {
  if (!Array.isArray(value)) throw unexpected(name);
  return value;
}

/** A binary of an answer, copied: the answer's memory is used again. */
export function bytesOf(value: unknown, name: string): Uint8Array {
  if (!(value instanceof Uint8Array)) throw unexpected(name);
  return new Uint8Array(value);
}

/** An answer that is a map with members of any kind, as rotation_status and status have it. */
export function mapOf(value: unknown, name: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || value instanceof Uint8Array) throw unexpected(name);
  return { ...value };
}

export function createdOfResults(results: readonly unknown[]): CreatedKey {
  return {
    keyId: textOf(results[0], 'key_id'),
    wrapped: bytesOf(results[1], 'wrapped'),
    kekId: textOf(results[2], 'kek_id'),
    kekVersion: textOf(results[3], 'kek_version'),
  };
}

export function descriptionOfMap(value: unknown): KeyDescription {
  const text = (name: string) => textOf(memberOf(value, name), name);
  return {
    keyId: text('key_id'),
    threadId: optionalTextOf(memberOf(value, 'thread_id'), 'thread_id'),
    alg: oneOf(memberOf(value, 'alg'), 'alg', ['A256GCM'] as const),
    state: oneOf(memberOf(value, 'state'), 'state', ['active', 'disabled', 'destroyed'] as const),
    version: numberOf(memberOf(value, 'version'), 'version'),
    kekId: text('kek_id'),
    kekVersion: text('kek_version'),
    usesReserved: numberOf(memberOf(value, 'uses_reserved'), 'uses_reserved'),
    createdAt: text('created_at'),
    updatedAt: text('updated_at'),
    createdBy: text('created_by'),
  };
}

export function pageOfResults(results: readonly unknown[]): KeyPage {
  return { keys: listOf(results[0], 'keys').map(descriptionOfMap), next: optionalTextOf(results[1], 'next') };
}

export function healthOfMap(value: unknown): Health {
  return {
    status: oneOf(memberOf(value, 'status'), 'status', ['ok', 'sealed', 'degraded'] as const),
    protection: oneOf(memberOf(value, 'protection'), 'protection', ['secretmem', 'mlock', 'none'] as const),
    storeFault: optionalTextOf(memberOf(value, 'store_fault'), 'store_fault'),
    auditFault: optionalTextOf(memberOf(value, 'audit_fault'), 'audit_fault'),
    damagedRecords: listOf(memberOf(value, 'damaged_records'), 'damaged_records').map((record) => ({
      keyId: textOf(memberOf(record, 'key_id'), 'key_id'),
      reason: textOf(memberOf(record, 'reason'), 'reason'),
    })),
    keysNearLimit: listOf(memberOf(value, 'keys_near_limit'), 'keys_near_limit').map((id) => textOf(id, 'keys_near_limit')),
  };
}
