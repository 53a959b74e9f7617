import type { RotationStatus, SlotDescription } from '../../dist/provider.js';

/** A rotation and a slot, as the protocols and as the provider have them. */

export const HEX = '0123456789abcdef'.repeat(4);

export const ROTATION_MAP = {
  state: 'running',
  rotation_id: 'r2-0123456789abcdef',
  phase: 'rewrap',
  kek_id: 'kek_2',
  kek_version: '2',
  total: 9,
  done: 4,
  keys_per_second: 0,
  seconds_left: 3,
  started_at: '2026-01-31T12:00:00.000Z',
  finished_at: null,
  blocked_by: [{ key_id: 'k_1', reason: 'its MAC' }],
  error: null,
  due: 'age',
};

export const ROTATION: RotationStatus = {
  state: 'running',
  rotationId: 'r2-0123456789abcdef',
  phase: 'rewrap',
  kekId: 'kek_2',
  kekVersion: '2',
  total: 9,
  done: 4,
  keysPerSecond: 0,
  secondsLeft: 3,
  startedAt: '2026-01-31T12:00:00.000Z',
  finishedAt: null,
  blockedBy: [{ keyId: 'k_1', reason: 'its MAC' }],
  error: null,
  due: 'age',
};

export const SLOT_MAP = {
  slot_id: `s_${'0'.repeat(32)}`,
  kind: 'master',
  state: 'pending',
  created_at: '2026-01-31T12:00:00.000Z',
  expires_at: '2026-02-07T12:00:00.000Z',
  in_use: false,
};

export const SLOT: SlotDescription = {
  slotId: SLOT_MAP.slot_id,
  kind: 'master',
  state: 'pending',
  createdAt: SLOT_MAP.created_at,
  expiresAt: SLOT_MAP.expires_at,
  inUse: false,
};
