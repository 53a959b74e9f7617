import { existsSync } from 'node:fs';
import { drill } from '../../backup/drill.js';
import { createEmbeddedKms } from '../../create.js';
import { binding } from '../../native.js';
import { Failure } from '../failure.js';
import { KEY_FD } from '../key-child.js';
import type { Output } from '../output.js';
import { openOffline } from '../provider.js';
import type { Settings } from '../settings.js';
import { asFileFailure } from './backup.js';
import { type RestoreFlags, restoreCommand } from './restore.js';

/** The other half of `recovery`: has the store, and reads the recovery key natively from a pipe. */
export async function recoveryChildCommand(
  verb: string,
  { backup, ...flags }: RestoreFlags & { backup?: string },
  settings: Settings,
  output: Output,
): Promise<void> {
  if (verb === 'add') output.result({ slot_id: await add(settings) }, '');
  else if (verb === 'drill') output.result(await tried(backup, settings), '');
  else if (verb === 'open') output.result(await open(settings), '');
  else if (verb === 'restore')
    await restoreCommand(backup as string, flags, settings, output, { kind: 'descriptor', fd: KEY_FD });
  else throw new Failure('USAGE', 'this command is started by `progressdb-kms recovery`');
}

async function add(settings: Settings): Promise<string> {
  const { kms } = await openOffline(settings);
  try {
    return (await kms.addSlot({ masterKeyFd: KEY_FD, kind: 'recovery' })).slotId;
  } finally {
    await kms.close();
  }
}

async function tried(backup: string | undefined, { dataDir }: Settings): Promise<object> {
  try {
    const place = backup === undefined ? { dataDir: dataDir.value } : { backup };
    const { slot, storeId, generation, keks } = await drill(place, { kind: 'descriptor', fd: KEY_FD });
    return { slot_id: slot.slotId, kind: slot.kind, store_id: storeId, generation, keks };
  } catch (error) {
    // The shares' own refusal is told by the parent, which knows them.
    throw error instanceof Error && 'code' in error && error.code === 'UNAUTHENTICATED' ? error : asFileFailure(error);
  }
}

/** The key file is durable before its slot is: a slot of a key that nobody has would be of no use. */
async function open({ dataDir, masterKeyFile, postgres }: Settings): Promise<object> {
  const file = masterKeyFile as string;
  if (file.startsWith(`${dataDir.value}/`))
    throw new Failure('USAGE', `the master key file ${file} is inside the data directory`);
  const kms = await createEmbeddedKms({
    dataDir: dataDir.value,
    ...(postgres && { store: postgres }),
    masterKeyFd: KEY_FD,
    initialise: false,
  });
  try {
    const isNew = !existsSync(file);
    if (isNew) binding.writeKeyFile(file);
    const { slotId } = await kms.addSlot({ masterKeyFile: file, kind: 'master' }, { expires: false });
    return { slot_id: slotId, master_key_file: file, made_key_file: isNew };
  } finally {
    await kms.close();
  }
}
