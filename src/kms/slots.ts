import { randomBytes } from 'node:crypto';
import { KmsError } from '../errors.js';
import { MAX_SLOTS, MAX_WAITING_SLOTS } from '../limits.js';
import type { SlotDescription } from '../provider.js';
import { rootAad, slotKeyAad } from '../store/canonical.js';
import type { KeyringDocument, KeyringSlot, SlotKind, SlotState } from '../store/key-store.js';
import type { Handle, Vault } from '../vault.js';

const SLOT_INFO = 'progressdb-kms/slot/v1';

/** What a slot shall be besides what its master key makes it. */
export interface SlotRole {
  kind: SlotKind;
  state: SlotState;
  /** '' for never. */
  expiresAt: string;
}

export const FIRST_SLOT: SlotRole = { kind: 'master', state: 'active', expiresAt: '' };

function isExpired(slot: KeyringSlot, at: string): boolean {
  return slot.state !== 'active' && slot.expiresAt !== '' && slot.expiresAt <= at;
}

export function makeSlot(vault: Vault, master: Handle, root: Handle, storeId: string, role: SlotRole): KeyringSlot {
  const slotId = `s_${randomBytes(16).toString('hex')}`;
  const salt = randomBytes(32);
  const slotKey = vault.derive(master, salt, SLOT_INFO, 'slot');
  try {
    return {
      slotId,
      ...role,
      salt,
      root: vault.wrap(slotKey, root, rootAad(storeId, slotId)),
      slotKey: vault.wrap(root, slotKey, slotKeyAad(storeId, slotId)),
      createdAt: new Date().toISOString(),
    };
  } finally {
    vault.release(slotKey);
  }
}

/** The root key as this slot has it, undefined if the master key is not its. */
function opened(vault: Vault, master: Handle, storeId: string, slot: KeyringSlot): Handle | undefined {
  const slotKey = vault.derive(master, slot.salt, SLOT_INFO, 'slot');
  try {
    return vault.unwrap(slotKey, slot.root, rootAad(storeId, slot.slotId), 'root');
  } catch (error) {
    if (error instanceof KmsError && error.code === 'AUTHENTICATION_FAILED') return undefined;
    throw error;
  } finally {
    vault.release(slotKey);
  }
}

/** The first slot that the master key opens, with the root key; UNAUTHENTICATED if it opens none, or one that has expired. */
export function openSlots(vault: Vault, master: Handle, document: KeyringDocument): { slotId: string; root: Handle } {
  for (const slot of document.slots) {
    const root = opened(vault, master, document.storeId, slot);
    if (root === undefined) continue;
    if (!isExpired(slot, new Date().toISOString())) return { slotId: slot.slotId, root };
    vault.release(root);
    throw new KmsError('UNAUTHENTICATED', `the slot of this master key expired at ${slot.expiresAt}, before any start used it`);
  }
  throw new KmsError('UNAUTHENTICATED', 'the master key opens no slot of this keyring');
}

/** The slot of these that the master key opens already. */
export function slotOf(vault: Vault, master: Handle, storeId: string, slots: readonly KeyringSlot[]): KeyringSlot | undefined {
  return slots.find((slot) => {
    const root = opened(vault, master, storeId, slot);
    if (root !== undefined) vault.release(root);
    return root !== undefined;
  });
}

/** The slots with one more. At its end: which slots are older than a successor is told by their order. */
export function added(slots: readonly KeyringSlot[], slot: KeyringSlot): KeyringSlot[] {
  if (slots.length >= MAX_SLOTS)
    throw new KmsError('CONFLICT', `the keyring has ${MAX_SLOTS} slots, which is the most; remove one`);
  const at = new Date().toISOString();
  const waiting = slots.filter((one) => one.state !== 'active' && one.kind === slot.kind && !isExpired(one, at));
  if (slot.state !== 'active' && waiting.length >= MAX_WAITING_SLOTS) {
    throw new KmsError('CONFLICT', `${MAX_WAITING_SLOTS} slots await the first start that uses them; remove one of them`);
  }
  return [...slots, slot];
}

/** What becomes of the slot of a master key that is given once more: it only ever comes nearer to being used. */
export function renewed(slots: readonly KeyringSlot[], known: KeyringSlot, role: SlotRole): KeyringSlot[] {
  if (known.state === 'active' || known.kind !== role.kind) return [...slots];
  if (role.state === 'successor') return [...slots.filter((slot) => slot !== known), { ...known, ...role }];
  if (known.state === 'successor') return [...slots];
  return slots.map((slot) => (slot === known ? { ...slot, expiresAt: role.expiresAt } : slot));
}

export function without(slots: readonly KeyringSlot[], slotId: string): KeyringSlot[] {
  const rest = slots.filter((slot) => slot.slotId !== slotId);
  if (rest.length === slots.length) throw new KmsError('INVALID_ARGUMENT', 'there is no such slot');
  if (!rest.some((slot) => slot.kind === 'master' && slot.state === 'active')) {
    throw new KmsError(
      'CONFLICT',
      'this is the last master key that has opened the store; add another one and start with it first',
    );
  }
  return rest;
}

export interface Confirmed {
  slots: KeyringSlot[];
  /** The slot that has become active. */
  confirmed: KeyringSlot | undefined;
  /** Older master slots, which a successor has taken the place of. */
  succeeded: KeyringSlot[];
  expired: KeyringSlot[];
}

/** What a start with this slot makes of all: it is active, what it succeeds goes, and what nobody has used in time. */
export function confirmed(slots: readonly KeyringSlot[], usedId: string): Confirmed {
  const at = new Date().toISOString();
  const usedAt = slots.findIndex((slot) => slot.slotId === usedId);
  const used = slots[usedAt];
  const isSucceeded = (slot: KeyringSlot, index: number) =>
    used?.state === 'successor' && slot.kind === 'master' && index < usedAt;
  const succeeded = slots.filter(isSucceeded);
  const expired = slots.filter((slot, index) => index !== usedAt && isExpired(slot, at) && !isSucceeded(slot, index));
  const rest = slots.filter((slot) => !succeeded.includes(slot) && !expired.includes(slot));
  return {
    slots: rest.map((slot) => (slot === used ? { ...slot, state: 'active', expiresAt: '' } : slot)),
    confirmed: used?.state === 'active' ? undefined : used,
    succeeded,
    expired,
  };
}

export function described(slot: KeyringSlot, usedId: string): SlotDescription {
  const { slotId, kind, state, createdAt, expiresAt } = slot;
  return { slotId, kind, state, createdAt, expiresAt: expiresAt === '' ? null : expiresAt, inUse: slotId === usedId };
}
