import { KmsError } from '../../dist/errors.js';
import type { FileSystem } from '../../dist/store/file-system.js';
import { interceptedFileSystem, systemError } from '../store/intercepted.js';
import { CrashFileSystem } from './crash-file-system.js';
import { Disk } from './disk.js';
import { embeddedThrough } from './faulty-provider.js';
import type { Scenario } from './laboratory.js';
import { audited, Ledger } from './ledger.js';
import { settledRotation } from './settled-rotation.js';
import { Witness } from './witness.js';

const DATA_DIR = '/srv/data';
/** The calls that can fail for what is wrong with a disk. */
const CALLS = /^(write|fsync|rename|link|unlink|mkdir|rmdir|ftruncate)(Sync)?$/;

/** One failing call, or all from there on as long as the disk is full. */
export type Failing = 'EIO' | 'ENOSPC' | 'EDQUOT';

interface Outcome {
  /** There was no such call. */
  isOver: boolean;
  /** What the failure made the service say: its store's fault or its rotation's. */
  told: string | null;
}

/** CONFLICT: a start that could not confirm its master key may not take the others away. */
function isOfDisk(error: unknown): boolean {
  return error instanceof KmsError && ['STORE_UNAVAILABLE', 'AUDIT_UNAVAILABLE', 'CONFLICT'].includes(error.code);
}

/**
 * Runs a scenario on a disk whose n-th call fails, then opens what is left on a sound one. Throws unless the failure was refused by
 * its code, nothing that was answered before is lost, and what was under way goes on.
 */
export async function failedAt<Made>(
  scenario: Scenario<Made>,
  masters: readonly string[],
  nth: number,
  errno: Failing,
  random: () => number,
): Promise<Outcome> {
  const [first, ...others] = masters as [string, ...string[]];
  const system = new CrashFileSystem(Disk.empty(), random);
  const ledger = new Ledger(new Map(), new Map([[first, 'yes']]));
  const place = (keyFile: string) => ({ directory: '/', dataDir: DATA_DIR, keyFile, socket: '' });
  const outcome: Outcome = { isOver: true, told: null };
  let calls = 0;
  let isFaulty = false;
  const fails = (op: string) => {
    if (!isFaulty || !CALLS.test(op)) return false;
    calls += 1;
    // A full disk stays full for what needs room.
    const isHit = errno === 'EIO' ? calls === nth : calls >= nth && !/^(unlink|rmdir|ftruncate)/.test(op);
    if (isHit) outcome.isOver = false;
    return isHit;
  };
  const through: FileSystem = interceptedFileSystem(({ op }, proceed) => {
    if (fails(op)) throw systemError(errno, op);
    return proceed();
  }, system);
  let open: Witness<Awaited<ReturnType<typeof embeddedThrough>>> | undefined;
  const bench = {
    ledger,
    masters: others,
    open: async (keyFile = first) => {
      open = new Witness(await embeddedThrough(through, place(keyFile), scenario.audit), ledger);
      return open;
    },
  };
  const made = await scenario.before(bench);
  isFaulty = true;
  try {
    await scenario.during(bench, made);
  } catch (error) {
    if (!isOfDisk(error)) throw error;
  }
  if (open !== undefined && !outcome.isOver) {
    const health = await open.kms.health().catch(() => undefined);
    const rotation = await open.kms.rotationStatus().catch(() => undefined);
    outcome.told = health?.storeFault ?? rotation?.error ?? null;
  }
  isFaulty = false;
  await open?.kms.close().catch(() => undefined);
  await onSoundDisk(system, scenario, ledger, place);
  return outcome;
}

async function onSoundDisk<Made>(
  system: CrashFileSystem,
  { audit }: Scenario<Made>,
  ledger: Ledger,
  place: (keyFile: string) => { directory: string; dataDir: string; keyFile: string; socket: string },
): Promise<void> {
  for (const [keyFile, opens] of ledger.masters) {
    if (opens !== 'yes') continue;
    const copy = ledger.copy();
    const kms = await embeddedThrough(new CrashFileSystem(system.disk.fork(), Math.random), place(keyFile), audit);
    try {
      copy.tell(await audited(kms, copy));
      await settledRotation(kms);
      await audited(kms, copy);
      const witness = new Witness(kms, copy);
      await witness.seal(await witness.create());
    } finally {
      await kms.close();
    }
  }
}
