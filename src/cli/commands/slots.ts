import type { SlotDescription } from '../../provider.js';
import { Failure } from '../failure.js';
import { newMasterKeyPath } from '../new-master-key.js';
import { type Output, table, wireNames } from '../output.js';
import { openAccess } from '../provider.js';
import type { Settings } from '../settings.js';

export async function listSlotsCommand(settings: Settings, output: Output): Promise<void> {
  const { kms } = await openAccess(settings, output);
  try {
    const slots = await kms.slots();
    output.result({ slots: slots.map(wireNames) }, table(slots.map(rowOf)));
  } finally {
    await kms.close();
  }
}

function rowOf({ slotId, kind, state, createdAt, expiresAt, inUse }: SlotDescription): string[] {
  return [slotId, kind, state, createdAt, expiresAt ?? 'never', inUse ? 'in use' : '-'];
}

export async function addSlotCommand(file: string, settings: Settings, output: Output): Promise<void> {
  const access = await openAccess(settings, output);
  try {
    const slot = await access.kms.addSlot({ masterKeyFile: newMasterKeyPath(file, access) });
    output.result(wireNames(slot), `${slot.slotId}  ${slot.state}`);
    if (slot.expiresAt !== null) output.note(`unless a start uses that key, it opens the store until ${slot.expiresAt} only`);
  } finally {
    await access.kms.close();
  }
}

export async function confirmSlotCommand(confirmed: boolean, settings: Settings, output: Output): Promise<void> {
  if (!confirmed) {
    const message = 'older master keys that it succeeds will open the store no more';
    throw new Failure('USAGE', message, 'add --yes if that is meant, once every daemon was started with the new one');
  }
  const { kms } = await openAccess(settings, output);
  try {
    const slots = await kms.confirmSlot();
    output.result({ slots: slots.map(wireNames) }, table(slots.map(rowOf)));
  } finally {
    await kms.close();
  }
}

export async function removeSlotCommand(slotId: string, confirmed: boolean, settings: Settings, output: Output): Promise<void> {
  if (!confirmed) throw new Failure('USAGE', `the key of ${slotId} will open the store no more`, 'add --yes if that is meant');
  const { kms } = await openAccess(settings, output);
  try {
    await kms.removeSlot(slotId);
    output.result({ slot_id: slotId, removed: true }, `removed ${slotId}`);
    output.note(
      'its key still opens copies of the data directory made earlier: `progressdb-kms rotate-kek` makes a KEK that they lack',
    );
  } finally {
    await kms.close();
  }
}
