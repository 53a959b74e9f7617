import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Act } from './act.js';
import type { ImportFlags } from './commands/import.js';
import type { SplitFlags } from './commands/recovery.js';
import type { RestoreFlags } from './commands/restore.js';
import type { MigrateFlags } from './commands/store.js';
import type { Output } from './output.js';
import { anyKind, storeOption } from './store-kind.js';

/** Backups, restore, recovery and import. `alone` is for those that call no daemon. */
export function addStorage(program: Command, act: Act, alone: Act, output: Output): void {
  const backup = program.command('backup').description('write and verify backups');
  const create = backup
    .command('create <file>')
    .description('write everything to one new file, while the daemon serves')
    .option('--skip-damaged', 'leave damaged records out, and name them');
  act<{ skipDamaged?: boolean }>(create, async (options, settings, [file]) => {
    const { createBackupCommand } = await import('./commands/backup.js');
    await createBackupCommand(file as string, options, settings, output);
  });
  const verify = backup
    .command('verify <file>')
    .description('prove that a backup is whole, and with --master-key-file that it is genuine and every key opens');
  alone(verify, async (_, settings, [file]) => {
    const { verifyBackupCommand } = await import('./commands/backup.js');
    await verifyBackupCommand(file as string, settings, output);
  });
  const restore = program
    .command('restore <file>')
    .description('make the data directory from a backup')
    .option('--force', 'set a directory that is not empty aside')
    .option('--accept-rollback', 'also one that has gone on since the backup')
    .addOption(storeOption('what keeps the keys of the directory that is made: files, unless told, or lmdb'))
    .option('--with-shares', 'by shares of a recovery key, from standard input, instead of a master key');
  alone<RestoreFlags>(restore, async (flags, settings, [file]) => {
    if (flags.withShares === true) {
      const { restoreBySharesCommand } = await import('./commands/recovery.js');
      return await restoreBySharesCommand(file as string, flags, settings, output);
    }
    const { restoreCommand } = await import('./commands/restore.js');
    await restoreCommand(file as string, flags, settings, output);
    return 0;
  });
  addRecovery(program, act, alone, output);
  addStores(program, alone, output);
  const importing = program
    .command('import [path...]')
    .description('take keys over from the Go daemon or the first generation')
    .requiredOption('--from-master-key-file <file>', 'the master key that they stand under')
    .option('--from <url>', 'fetch them from a running Go daemon')
    .option('--ids <file>', 'their ids, one a line, each with its thread after a space where it has one');
  alone<ImportFlags>(importing, async (flags, settings, paths) => {
    const { importCommand } = await import('./commands/import.js');
    await importCommand(paths, flags, settings, output);
  });
}

function addStores(program: Command, alone: Act, output: Output): void {
  const store = program.command('store').description('what keeps the keys');
  const migrate = store
    .command('migrate')
    .description('copy all keys to a store of another kind, prove the copy, and use it from then on; the old one stays')
    .addOption(new Option('--to <kind>', 'files, lmdb or postgres').argParser(anyKind))
    .option('--remove-source', 'remove the old one, once another has taken its place');
  alone<MigrateFlags>(migrate, async (flags, settings) => {
    const { migrateCommand } = await import('./commands/store.js');
    await migrateCommand(flags, settings, output);
  });
}

function addRecovery(program: Command, act: Act, alone: Act, output: Output): void {
  const recovery = program.command('recovery').description('a key in shares that opens the store when the master key is lost');
  const create = recovery
    .command('create')
    .description('make one and print its shares, this once')
    .requiredOption('--shares <n>', 'how many there are', fewNumber)
    .requiredOption('--threshold <n>', 'how many of them open the store', fewNumber);
  act<SplitFlags>(create, async (flags, settings) => {
    const { createSharesCommand } = await import('./commands/recovery.js');
    await createSharesCommand(flags, settings, output);
  });
  const drill = recovery
    .command('drill')
    .description('prove that shares, read from standard input, open the store; writes nothing')
    .option('--backup <file>', 'or a backup of it');
  alone<{ backup?: string }>(drill, async (flags, settings) => {
    const { drillCommand } = await import('./commands/recovery.js');
    await drillCommand(flags, settings, output);
  });
  const open = recovery.command('open').description('let a new master key open the store, by shares from standard input');
  alone(open, async (_, settings) => {
    const { recoverCommand } = await import('./commands/recovery.js');
    await recoverCommand(settings, output);
  });
  const child = recovery
    .command('child <verb>', { hidden: true })
    .option('--backup <file>')
    .option('--force')
    .option('--accept-rollback')
    .addOption(storeOption('as of restore'));
  alone<RestoreFlags & { backup?: string }>(child, async (flags, settings, [verb]) => {
    const { recoveryChildCommand } = await import('./commands/recovery-child.js');
    await recoveryChildCommand(verb as string, flags, settings, output);
  });
}

function fewNumber(text: string): number {
  if (!/^[1-9]\d{0,2}$/.test(text)) throw new InvalidArgumentError('It must be a whole number from 2.');
  return Number(text);
}
