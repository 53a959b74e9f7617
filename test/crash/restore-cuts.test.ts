import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { restoreBackup } from '../../dist/backup/restore.js';
import { refuseInterrupted } from '../../dist/backup/target.js';
import type { FileSystem } from '../../dist/store/file-system.js';
import { backupOf } from '../backup/ground.js';
import { newDataDir } from '../store/data-dir.js';
import { interceptedFileSystem } from '../store/intercepted.js';
import { withoutBarrier } from './barriers.js';
import { CrashFileSystem } from './crash-file-system.js';
import { Disk } from './disk.js';
import { IS_FULL } from './extent.js';
import { auditThrough, embeddedThrough } from './faulty-provider.js';
import { audited, Ledger } from './ledger.js';
import { masterFiles } from './masters.js';
import { powerCuts } from './power-cuts.js';
import { newSeed, randomFrom } from './random.js';
import { Witness } from './witness.js';

const MOST = IS_FULL ? 256 : 12;
const SHARE = IS_FULL ? 1 : 0.3;

interface Place {
  directory: string;
  dataDir: string;
  keyFile: string;
  socket: string;
}

/** Directories are made on the real disk as well, where native code locks them. */
function mirrored(system: CrashFileSystem): FileSystem {
  return interceptedFileSystem(({ op }, proceed, args) => {
    if (op === 'mkdir') mkdirSync(args[0] as string, { recursive: true });
    return proceed();
  }, system);
}

function restored(system: FileSystem, { directory, dataDir, keyFile }: Place) {
  const master = { kind: 'file' as const, path: keyFile, mayBeGroupReadable: false };
  const path = join(directory, 'base.backup');
  const openAudit = auditThrough(system, { acceptRollback: true });
  const target = { path, dataDir, force: true, acceptRollback: true };
  return restoreBackup({ ...target, master, actor: 'uid:0', openAudit, fileSystem: system });
}

/** A store of which there is a backup, with one key made since. */
async function base(place: Place, random: () => number) {
  const system = new CrashFileSystem(Disk.empty(), random);
  const parts = place.directory.split('/').filter((part) => part !== '');
  for (const at of parts.keys()) await system.mkdir(`/${parts.slice(0, at + 1).join('/')}`, 0o700);
  const kms = await embeddedThrough(mirrored(system), place);
  const ledger = new Ledger();
  const witness = new Witness(kms, ledger);
  await witness.created(2);
  await backupOf(kms, join(place.directory, 'base.backup'), { fileSystem: system });
  const promised = ledger.copy();
  const later = await witness.create();
  await kms.close();
  system.disk.forgetUnsynced();
  return { system, ledger: promised, later };
}

/** How many disks were looked at, and which outcomes they had. */
async function explored(t: ExecutionContext, seed: number, broken = (system: FileSystem) => system) {
  const random = randomFrom(seed);
  const directory = dirname(join(newDataDir(t), 'x'));
  const place = { directory, dataDir: join(directory, 'data'), keyFile: masterFiles(t)[0] as string, socket: '' };
  const { system, ledger, later } = await base(place, random);
  const crashes: Array<{ disk: Disk; isAnswered: boolean }> = [];
  let isAnswered = false;
  system.onChange = () => crashes.push({ disk: system.disk.fork(), isAnswered });
  await restored(broken(mirrored(system)), place);
  isAnswered = true;
  system.onChange('the end');
  system.onChange = () => {};
  const outcomes = new Set<string>();
  let looked = 0;
  for (const crash of crashes) {
    for (const disk of powerCuts(crash.disk, MOST, random).values()) {
      if (!crash.isAnswered && random() > SHARE) continue;
      looked += 1;
      outcomes.add(await checked(disk, place, ledger, later, crash.isAnswered, random));
    }
  }
  return { looked, outcomes };
}

async function checked(
  disk: Disk,
  place: Place,
  ledger: Ledger,
  later: string,
  isAnswered: boolean,
  random: () => number,
): Promise<string> {
  const after = mirrored(new CrashFileSystem(disk, random));
  const isGap = await refuseInterrupted(after, place.dataDir).then(
    () => false,
    () => true,
  );
  const isOld = disk.read(`${place.dataDir}/kms-deks/${later}.json`) !== undefined;
  const outcome = isGap ? 'gap' : isOld ? 'old' : 'new';
  if (isAnswered && outcome !== 'new') throw new Error(`answered, and it is the ${outcome}`);
  // The key made since is one that the ledger of the backup does not know of.
  const before = ledger.copy();
  before.began();
  if (!isGap) await opens(after, place, before);
  // Whatever was left, another one goes through.
  await restored(after, place);
  await opens(after, place, ledger);
  return outcome;
}

async function opens(system: FileSystem, place: Place, ledger: Ledger): Promise<void> {
  const kms = await embeddedThrough(system, place);
  await audited(kms, ledger).finally(() => kms.close());
}

test('a power cut in a restore leaves the old directory, the new one, or a gap that the next restore closes', async (t) => {
  const seed = newSeed();
  const { looked, outcomes } = await explored(t, seed);
  t.log(`seed ${seed}: ${looked} disks: ${[...outcomes].join(', ')}`);
  t.true(outcomes.has('new') && outcomes.has('old'));
});

test('control: a restore whose fsyncs of directories are lost is found', async (t) => {
  const isLost = (of: string) => !of.endsWith('.tmp');
  await t.throwsAsync(explored(t, newSeed(), withoutBarrier(isLost)));
});
