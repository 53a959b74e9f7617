import { KmsError } from '../errors.js';
import type { NewSlot, RotationOptions } from '../provider.js';
import type { SlotKind } from '../store/key-store.js';
import { checkKeyId } from './calls.js';
import { type NewMaster, newMasterOf } from './new-master.js';
import type { RotationOrder } from './rotation.js';

interface CheckedRotation {
  order: RotationOrder;
  master: NewMaster | undefined;
  wait: boolean;
  dryRun: boolean;
}

function isTrue(value: unknown, name: string): boolean {
  if (value === undefined || typeof value === 'boolean') return value === true;
  throw new KmsError('INVALID_ARGUMENT', `${name} must be true or false`);
}

/** The options of a rotation, checked: a caller in this process may give anything. */
export function rotationOrderOf(options: RotationOptions, actor: string): CheckedRotation {
  const { keysPerSecond, abandon = [] } = options;
  if (keysPerSecond !== undefined && !(Number.isSafeInteger(keysPerSecond) && keysPerSecond >= 0)) {
    throw new KmsError('INVALID_ARGUMENT', 'keysPerSecond must be a whole number, not negative');
  }
  if (!Array.isArray(abandon)) throw new KmsError('INVALID_ARGUMENT', 'abandon must be a list of key ids');
  const master = newMasterOf({ hex: 'newKekHex', file: 'newMasterKeyFile' }, options.newKekHex, options.newMasterKeyFile);
  const dryRun = isTrue(options.dryRun, 'dryRun');
  if (dryRun && (master !== undefined || abandon.length > 0)) {
    throw new KmsError('INVALID_ARGUMENT', 'a dry run takes no master key and abandons nothing');
  }
  const order = { actor, keysPerSecond, abandon: abandon.map(checkKeyId) };
  return { order, master, wait: isTrue(options.wait, 'wait'), dryRun };
}

/** The key that shall open the store as well, and for what. */
export function addedSlotOf(slot: NewSlot & { masterKeyFd?: number }): { master: NewMaster; kind: SlotKind } {
  const { keyHex, masterKeyFile, masterKeyFd, kind = 'master' } = slot ?? {};
  const other = newMasterOf({ hex: 'keyHex', file: 'masterKeyFile' }, keyHex, masterKeyFile);
  if (other !== undefined && masterKeyFd !== undefined) throw new KmsError('INVALID_ARGUMENT', 'give one key');
  const master = masterKeyFd === undefined ? other : { fd: masterKeyFd };
  if (master === undefined) throw new KmsError('INVALID_ARGUMENT', 'give keyHex or masterKeyFile');
  if (kind !== 'master' && kind !== 'recovery') throw new KmsError('INVALID_ARGUMENT', 'kind must be master or recovery');
  return { master, kind };
}
