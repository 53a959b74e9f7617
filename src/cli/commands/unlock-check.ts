import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { KeyringPlace } from '../../create.js';
import { Failure, failureOf, MASTER_KEY_HINT } from '../failure.js';
import type { Output } from '../output.js';
import { KEYRING, noStore } from '../provider.js';
import type { Settings } from '../settings.js';

/** Opens the keyring with the given master key as a start would, and says by which slot. Changes nothing, daemon or not. */
export async function unlockCheckCommand(settings: Settings, output: Output): Promise<void> {
  const { dataDir, masterKeyFile, postgres } = settings;
  if (postgres === undefined && !existsSync(join(dataDir.value, KEYRING))) throw noStore(`${dataDir.value} holds no key store`);
  if (masterKeyFile === undefined) {
    throw new Failure('USAGE', 'no master key file is given', 'name it with --master-key-file FILE');
  }
  const { slotId, kind, state } = await slotOf({ dataDir: dataDir.value, masterKeyFile, ...(postgres && { store: postgres }) });
  output.result(
    { data_dir: dataDir.value, master_key_file: masterKeyFile, slot_id: slotId, kind, state },
    `${masterKeyFile} opens ${dataDir.value} by ${slotId} (${kind}, ${state})`,
  );
}

async function slotOf(place: KeyringPlace) {
  const { openKeyring } = await import('../../create.js');
  const kms = await openKeyring(place).catch((error) => {
    const failure = failureOf(error);
    throw failure.code === 'UNAUTHENTICATED' ? failure.with(MASTER_KEY_HINT) : failure;
  });
  try {
    const slot = (await kms.slots()).find(({ inUse }) => inUse);
    if (slot === undefined) throw new Failure('INTERNAL', 'the keyring does not say by which slot it was opened');
    return slot;
  } finally {
    await kms.close();
  }
}
