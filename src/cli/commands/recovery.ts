import { resolve } from 'node:path';
import { binding } from '../../native.js';
import { parseShare, type Share, shareText, slotPrefix } from '../../recovery/share.js';
import { checkSplit, joinShares, makeKey, splitKey } from '../../recovery/split.js';
import { Failure } from '../failure.js';
import { leftToKeyChild, withKeyChild } from '../key-child.js';
import { columns, type Output } from '../output.js';
import { type DaemonAccess, openRunning } from '../provider.js';
import { secretLines } from '../secret-lines.js';
import type { Settings } from '../settings.js';
import type { RestoreFlags } from './restore.js';

// These commands have a recovery key in JavaScript, for a moment. None of them has a store open: that is another process.

export interface SplitFlags {
  shares: number;
  threshold: number;
}

/**
 * Makes a recovery key, lets it open the store, and prints its shares, this once. The slot first: shares that were printed before
 * it and opened nothing would be found out when they are needed. Shares that nobody took are of no use, so then the slot goes.
 */
export async function createSharesCommand({ shares, threshold }: SplitFlags, settings: Settings, output: Output): Promise<void> {
  checkSplit(shares, threshold);
  binding.hardenProcess();
  const daemon = await openRunning(settings, output);
  try {
    const key = makeKey();
    const copy = Uint8Array.from(key);
    let parts: Share[];
    try {
      const slotId = await addSlot(daemon, key, settings);
      parts = await splitKey(copy, slotPrefix(slotId), shares, threshold);
      show(parts, slotId, output);
      if (await output.wasTaken()) return;
      await removeSlot(daemon, slotId, settings);
      throw new Failure('FILE', 'the shares could not be printed, and the slot was removed again');
    } finally {
      for (const secret of [key, copy]) secret.fill(0);
    }
  } finally {
    await daemon?.kms.close();
  }
}

async function addSlot(daemon: DaemonAccess | undefined, key: Uint8Array, settings: Settings): Promise<string> {
  if (daemon === undefined) return String((await withKeyChild(childArgs('add', settings), key))['slot_id']);
  const keyHex = Buffer.from(key.buffer, key.byteOffset, key.length).toString('hex');
  return (await daemon.kms.addSlot({ keyHex, kind: 'recovery' })).slotId;
}

async function removeSlot(daemon: DaemonAccess | undefined, slotId: string, settings: Settings): Promise<void> {
  if (daemon !== undefined) return await daemon.kms.removeSlot(slotId);
  const { openOffline } = await import('../provider.js');
  const { kms } = await openOffline(settings);
  await kms.removeSlot(slotId).finally(() => kms.close());
}

function show(parts: readonly Share[], slotId: string, output: Output): void {
  const texts = parts.map((part) => {
    const text = shareText(part);
    part.bytes.fill(0);
    const shown = text.toString('latin1');
    text.fill(0);
    return shown;
  });
  const { threshold } = parts[0] as Share;
  output.result({ slot_id: slotId, threshold, shares: texts }, texts.join('\n'));
  output.note(`any ${threshold} of these ${texts.length} shares open the store; they are shown this once, and are kept nowhere`);
  output.note(`give each to another person, and try them now: progressdb-kms recovery drill; the slot is ${slotId}`);
}

/** The settings that a child has to be told; the rest it has from the same environment. */
function childArgs(verb: string, { dataDir, masterKeyFile }: Settings, more: readonly string[] = []): string[] {
  const master = masterKeyFile === undefined ? [] : ['--master-key-file', masterKeyFile];
  return ['recovery', 'child', verb, '--data-dir', dataDir.value, ...master, ...more];
}

/** Reads shares until they are enough. */
async function readShares(): Promise<Share[]> {
  const shares: Share[] = [];
  for await (const line of secretLines((number) => `share ${number}: `)) {
    try {
      shares.push(parseShare(line, `share ${shares.length + 1}`));
    } finally {
      line.fill(0);
    }
    if (shares.length >= (shares[0] as Share).threshold) break;
  }
  return shares;
}

/** Restores a backup by shares, where the master key is lost as well; a new one is given to the store afterwards. */
export async function restoreBySharesCommand(
  file: string,
  { force, acceptRollback, store }: RestoreFlags,
  settings: Settings,
  output: Output,
): Promise<number> {
  const { dataDir } = settings;
  binding.hardenProcess();
  const shares = await readShares();
  try {
    const flags = [...(force === true ? ['--force'] : []), ...(acceptRollback === true ? ['--accept-rollback'] : [])];
    if (store !== undefined) flags.push('--store', store);
    const own = ['--backup', resolve(file), '--data-dir', dataDir.value, ...(output.json ? ['--json'] : [])];
    return await leftToKeyChild(['recovery', 'child', 'restore', ...own, ...flags], await joinShares(shares));
  } finally {
    for (const { bytes } of shares) bytes.fill(0);
  }
}

async function withJoinedKey(args: readonly string[]): Promise<Record<string, unknown>> {
  binding.hardenProcess();
  const shares = await readShares();
  try {
    return await withKeyChild(args, await joinShares(shares));
  } catch (error) {
    if (!(error instanceof Failure && error.code === 'UNAUTHENTICATED')) throw error;
    const slot = (shares[0] as Share).slot;
    const hint = 'these shares are of another store, or of a slot that was removed';
    throw new Failure('UNAUTHENTICATED', `the shares fit each other, and open nothing here: slot s_${slot}…`, hint);
  } finally {
    for (const { bytes } of shares) bytes.fill(0);
  }
}

/** Proves that shares still open the store, or a backup of it. Writes nothing, and a daemon may run. */
export async function drillCommand({ backup }: { backup?: string }, settings: Settings, output: Output): Promise<void> {
  const more = backup === undefined ? [] : ['--backup', resolve(backup)];
  const found = await withJoinedKey(childArgs('drill', settings, more));
  const rows: Array<[string, string]> = ['slot_id', 'kind', 'store_id', 'generation', 'keks'].map((name) => [
    name,
    String(found[name]),
  ]);
  output.result({ opens: true, ...found }, `the shares open ${backup ?? settings.dataDir.value}\n${columns(rows)}`);
}

/** Lets a new master key open the store, by shares instead of the one that is lost. */
export async function recoverCommand(settings: Settings, output: Output): Promise<void> {
  const { masterKeyFile } = settings;
  if (masterKeyFile === undefined) {
    throw new Failure(
      'USAGE',
      'no master key file is given',
      'name the new one, which is made if it is not there, with --master-key-file FILE',
    );
  }
  const found = await withJoinedKey(childArgs('open', settings));
  const made = found['made_key_file'] === true ? 'made the master key file' : 'used the master key file';
  output.result(found, `${made} ${masterKeyFile}\nit opens ${settings.dataDir.value} as slot ${String(found['slot_id'])}`);
  output.note('start with it; then `progressdb-kms slots list` shows the slot of the lost key, and `slots remove` ends that one');
}
