import { setTimeout as delay } from 'node:timers/promises';
import { ERROR_TABLE, KmsError } from '../../errors.js';
import type { Provider, RotationOptions, RotationStatus } from '../../provider.js';
import { failureOf } from '../failure.js';
import { openInside } from '../inside.js';
import { newMasterKeyPath } from '../new-master-key.js';
import { columns, type Output, wireNames } from '../output.js';
import { type Access, openAccess } from '../provider.js';
import { rotationProgress } from '../rotation-progress.js';
import type { Settings } from '../settings.js';

export interface RotateFlags {
  newMasterKeyFile?: string;
  dryRun?: boolean;
  keysPerSecond?: number;
  abandon?: string[];
  wait?: boolean;
}

/** How often is asked how far it is: a bar that moves, and no load for the daemon. */
const POLL_MS = 200;

/** Also says by its exit code what it came to. */
export async function rotateCommand(flags: RotateFlags, settings: Settings, output: Output): Promise<number> {
  const access = await openAccess(settings, output);
  try {
    const options = optionsOf(flags, access);
    const begun = await access.kms.rotateKek(options).catch(async (error) => {
      throw await explained(error, access.kms);
    });
    const isOver = flags.dryRun === true || flags.wait === false;
    const status = isOver ? begun : await awaitEnd(access.kms, begun, output);
    report(status, summaryOf(status, flags.dryRun === true), output);
    if (options.newMasterKeyFile !== undefined && flags.dryRun !== true) {
      output.note(
        `start with --master-key-file ${options.newMasterKeyFile} from now on; until a start has, the old key opens the store, too`,
      );
    }
    return exitOf(status);
  } finally {
    await access.kms.close();
  }
}

function optionsOf({ newMasterKeyFile, dryRun, keysPerSecond, abandon }: RotateFlags, access: Access): RotationOptions {
  return {
    ...(newMasterKeyFile !== undefined && { newMasterKeyFile: newMasterKeyPath(newMasterKeyFile, access) }),
    ...(dryRun === true && { dryRun }),
    ...(keysPerSecond !== undefined && { keysPerSecond }),
    ...(abandon !== undefined && { abandon }),
  };
}

/** A conflict with a rotation that runs passes; any other does not. */
async function explained(error: unknown, kms: Pick<Provider, 'rotationStatus'>): Promise<unknown> {
  if (!(error instanceof KmsError && error.code === 'CONFLICT')) return error;
  if ((await kms.rotationStatus()).state !== 'running') return error;
  return failureOf(error).with('`progressdb-kms rotation-status --wait` waits for the rotation that is under way');
}

/** Asks instead of waiting in one call, whose deadline nobody could know. */
async function awaitEnd(kms: Pick<Provider, 'rotationStatus'>, begun: RotationStatus, output: Output): Promise<RotationStatus> {
  const progress = rotationProgress(output.json);
  try {
    let status = begun;
    for (; status.state === 'running'; status = await kms.rotationStatus()) {
      progress.show(status);
      await delay(POLL_MS);
    }
    return status;
  } finally {
    progress.stop();
  }
}

export async function rotationStatusCommand(wait: boolean, settings: Settings, output: Output): Promise<number> {
  const { kms } = await openAccess(settings, output);
  try {
    const now = await kms.rotationStatus();
    const status = wait ? await awaitEnd(kms, now, output) : now;
    report(status, columns(rowsOf(status)), output);
    return exitOf(status);
  } finally {
    await kms.close();
  }
}

export async function rewrapCommand(keyId: string, settings: Settings, output: Output): Promise<void> {
  const { kms, end } = await openInside(settings, output);
  try {
    const { kekId, kekVersion } = await kms.rewrapDek(keyId);
    output.result(
      { key_id: keyId, kek_id: kekId, kek_version: kekVersion },
      `${keyId} is wrapped under KEK version ${kekVersion}`,
    );
  } finally {
    await end();
  }
}

function summaryOf(status: RotationStatus, isDry: boolean): string {
  const { state, kekVersion, total, done, blockedBy } = status;
  if (isDry)
    return `${keys(total)} to move to a new KEK, ${blockedBy.length === 0 ? 'all can be' : `${blockedBy.length} cannot be`} read`;
  if (state === 'idle') return `KEK version ${kekVersion} is in use, and ${keys(done)} moved to it`;
  return `KEK version ${kekVersion} is in use; ${done} of ${keys(total)} moved to it`;
}

function keys(count: number): string {
  return count === 1 ? '1 key' : `${count} keys`;
}

function report(status: RotationStatus, text: string, output: Output): void {
  output.result(wireNames(status), text);
  for (const { keyId, reason } of status.blockedBy) {
    output.note(`${keyId} holds the rotation up: ${reason}`);
  }
  if (status.blockedBy.length > 0) {
    output.note(
      'restore these records from a backup, or `progressdb-kms rotate-kek --abandon KEY_ID` leaves them behind with their data',
    );
  }
  if (status.error !== null) output.note(`the rotation stopped: ${status.error}; a start of the service goes on with it`);
}

function rowsOf(status: RotationStatus): Array<[string, string]> {
  const shown = Object.entries(wireNames(status)).filter(([name]) => name !== 'blocked_by');
  return shown.map(([name, value]) => [name, value === null ? '-' : String(value)]);
}

/** A script must not take a rotation that hangs for one that is complete. */
function exitOf({ state, blockedBy }: RotationStatus): number {
  if (state === 'blocked' || blockedBy.length > 0) return ERROR_TABLE.CONFLICT.exit;
  return state === 'failed' ? ERROR_TABLE.STORE_UNAVAILABLE.exit : 0;
}
