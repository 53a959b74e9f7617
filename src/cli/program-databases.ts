import type { Command } from 'commander';
import type { Act } from './act.js';
import type { Output } from './output.js';

/** Client-sealed databases. `alone` is for those that call no daemon. */
export function addDatabases(program: Command, act: Act, alone: Act, output: Output): void {
  const make = program
    .command('new-database')
    .description('make a database that only its secret opens, and print that, this once');
  act(make, async (_, settings) => {
    const { newDatabaseCommand } = await import('./commands/databases.js');
    await newDatabaseCommand(settings, output);
  });
  const databases = program.command('databases').description('list and remove databases, whose keys only their secrets show');
  const list = databases.command('list').description('list databases: id, when made, by whom, what is wrong');
  alone(list, async (_, settings) => {
    const { listDatabasesCommand } = await import('./commands/databases.js');
    await listDatabasesCommand(settings, output);
  });
  const drop = databases
    .command('drop <database-id>')
    .description('remove a database with all of its keys: their data can never be read again')
    .option('--yes', 'that is meant');
  alone<{ yes?: boolean }>(drop, async ({ yes }, settings, [databaseId]) => {
    const { dropDatabaseCommand } = await import('./commands/databases.js');
    await dropDatabaseCommand(databaseId as string, yes === true, settings, output);
  });
}
