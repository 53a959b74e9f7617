import type { NewSlot, RewrapOptions, RotationOptions, RotationStatus, SlotDescription } from '../provider.js';
import { listOf, memberOf, numberOf, oneOf, optionalTextOf, textOf, uint, unexpected } from './maps.js';

/** The rotation map of docs/PROTOCOL.md. */
export interface RotationMap {
  state: string;
  rotation_id: string | null;
  phase: string | null;
  kek_id: string;
  kek_version: string;
  total: number | bigint;
  done: number | bigint;
  keys_per_second: number | bigint;
  seconds_left: number | bigint | null;
  started_at: string | null;
  finished_at: string | null;
  blocked_by: Array<{ key_id: string; reason: string }>;
  error: string | null;
  due: string | null;
}

/** A slot map of docs/PROTOCOL.md. */
export interface SlotMap {
  slot_id: string;
  kind: string;
  state: string;
  created_at: string;
  expires_at: string | null;
  in_use: boolean;
}

const ROTATION_STATES = ['idle', 'running', 'blocked', 'failed'] as const;
const ROTATION_PHASES = ['drain', 'rewrap', 'verify', 'retire'] as const;

export function rotationMapOf(status: RotationStatus): RotationMap {
  return {
    state: status.state,
    rotation_id: status.rotationId,
    phase: status.phase,
    kek_id: status.kekId,
    kek_version: status.kekVersion,
    total: uint(status.total),
    done: uint(status.done),
    keys_per_second: uint(status.keysPerSecond),
    seconds_left: status.secondsLeft === null ? null : uint(status.secondsLeft),
    started_at: status.startedAt,
    finished_at: status.finishedAt,
    blocked_by: status.blockedBy.map(({ keyId, reason }) => ({ key_id: keyId, reason })),
    error: status.error,
    due: status.due,
  };
}

export function rotationOfMap(value: unknown): RotationStatus {
  const member = (name: string) => memberOf(value, name);
  const text = (name: string) => textOf(member(name), name);
  const optionalText = (name: string) => optionalTextOf(member(name), name);
  const number = (name: string) => numberOf(member(name), name);
  return {
    state: oneOf(member('state'), 'state', ROTATION_STATES),
    rotationId: optionalText('rotation_id'),
    phase: member('phase') === null ? null : oneOf(member('phase'), 'phase', ROTATION_PHASES),
    kekId: text('kek_id'),
    kekVersion: text('kek_version'),
    total: number('total'),
    done: number('done'),
    keysPerSecond: number('keys_per_second'),
    secondsLeft: member('seconds_left') === null ? null : number('seconds_left'),
    startedAt: optionalText('started_at'),
    finishedAt: optionalText('finished_at'),
    blockedBy: listOf(member('blocked_by'), 'blocked_by').map((record) => ({
      keyId: textOf(memberOf(record, 'key_id'), 'key_id'),
      reason: textOf(memberOf(record, 'reason'), 'reason'),
    })),
    error: optionalText('error'),
    due: optionalText('due'),
  };
}

export function slotMapOf(slot: SlotDescription): SlotMap {
  return {
    slot_id: slot.slotId,
    kind: slot.kind,
    state: slot.state,
    created_at: slot.createdAt,
    expires_at: slot.expiresAt,
    in_use: slot.inUse,
  };
}

export function slotOfMap(value: unknown): SlotDescription {
  const member = (name: string) => memberOf(value, name);
  const inUse = member('in_use');
  if (typeof inUse !== 'boolean') throw unexpected('in_use');
  return {
    slotId: textOf(member('slot_id'), 'slot_id'),
    kind: oneOf(member('kind'), 'kind', ['master', 'recovery'] as const),
    state: oneOf(member('state'), 'state', ['active', 'pending', 'successor'] as const),
    createdAt: textOf(member('created_at'), 'created_at'),
    expiresAt: optionalTextOf(member('expires_at'), 'expires_at'),
    inUse,
  };
}

export function slotsOfList(value: unknown): SlotDescription[] {
  return listOf(value, 'slots').map(slotOfMap);
}

/** The one of an answer that has one. */
export function onlySlotOf(value: unknown): SlotDescription {
  const [slot, ...others] = slotsOfList(value);
  if (slot === undefined || others.length > 0) throw unexpected('slot');
  return slot;
}

/** What was not given is left out: nil is no value of a member. */
function given(members: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined));
}

export function mapOfRotation(options: RotationOptions | undefined): Record<string, unknown> {
  const { newKekHex, newMasterKeyFile, wait, dryRun, keysPerSecond, abandon } = options ?? {};
  return given({
    new_kek_hex: newKekHex,
    new_master_key_file: newMasterKeyFile,
    wait,
    dry_run: dryRun,
    keys_per_second: keysPerSecond,
    abandon,
  });
}

export function mapOfNewSlot(slot: NewSlot): Record<string, unknown> {
  return given({ new_kek_hex: slot.keyHex, new_master_key_file: slot.masterKeyFile, kind: slot.kind });
}

export function argumentsOfRewrap(keyId: string, options: RewrapOptions | undefined): unknown[] {
  return [keyId, options?.newKekHex ?? null];
}
