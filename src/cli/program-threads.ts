import { type Command, InvalidArgumentError } from 'commander';
import type { Act } from './act.js';
import type { JobListFlags } from './commands/threads.js';
import type { Output } from './output.js';
import type { Settings } from './settings.js';
import type { JobFlags } from './threads/round.js';
import { type ThreadFlags, type ThreadSettings, threadSettingsOf } from './threads/settings.js';

const MAX_PARALLEL = 16;
const MAX_RATE = 10_000_000;
const MAX_DAYS = 3_650;
const MAX_PAGE = 1_000;

/** The commands about threads: they work on the store, or go through the server that has it. */
export function addThreads(program: Command, act: Act, output: Output): void {
  const threads = program.command('threads').description('serve threads, and look after their keys');
  /** A command on a store. */
  const on = (parent: Command, name: string, text: string): Command =>
    parent
      .command(name)
      .description(text)
      .option('--store <dir>', 'directory of the thread store; ./kms-threads unless given (PROGRESSDB_THREADS_STORE)')
      .option('--admin-token-file <file>', 'file of the token of administrators (PROGRESSDB_THREADS_ADMIN_TOKEN_FILE)');
  const through = (name: string, text: string): Command =>
    on(threads, name, text).option('--endpoint <address>', 'of a server that has the store (PROGRESSDB_THREADS_ENDPOINT)');
  const settled = (flags: ThreadFlags, settings: Settings): ThreadSettings => threadSettingsOf(flags, settings, process.env);

  const serve = withFields(on(threads, 'serve', 'serve threads as HTTP until SIGTERM or SIGINT')).option(
    '--listen <address>',
    'host:port of loopback, or the path of a socket; 127.0.0.1:6821 unless given',
  );
  act<ThreadFlags & { listen?: string }>(serve, async (flags, settings) => {
    const { serveThreadsCommand } = await import('./commands/threads-serve.js');
    return await serveThreadsCommand(flags.listen, settled(flags, settings), output);
  });
  act<ThreadFlags>(through('list', 'list threads: id, key, when made, title'), async (flags, settings) => {
    const { listThreadsCommand } = await import('./commands/threads.js');
    await listThreadsCommand(settled(flags, settings), output);
  });
  const purge = through('purge <thread>', 'destroy the keys of a thread, and all that the store has of it');
  purge.option('--yes', 'that is meant');
  act<ThreadFlags & { yes?: boolean }>(purge, async (flags, settings, [thread]) => {
    const { purgeCommand } = await import('./commands/threads.js');
    await purgeCommand(thread as string, flags.yes === true, settled(flags, settings), output);
  });
  addJobs(through, settled, act, output);
  addJobOrders(through, settled, act, output);
}

type Through = (name: string, text: string) => Command;
type Settled = (flags: ThreadFlags, settings: Settings) => ThreadSettings;

function addJobs(through: Through, settled: Settled, act: Act, output: Output): void {
  const rotate = jobOptions(through('rotate [threads...]', 'give threads new keys, and move all their messages to them'));
  act<ThreadFlags & JobFlags>(rotate, async (flags, settings, threads) => {
    const { rotateThreadsCommand } = await import('./commands/threads-jobs.js');
    return await rotateThreadsCommand(threads, flags, settled(flags, settings), output);
  });
  const encrypt = jobOptions(through('encrypt-existing [threads...]', 'encrypt what threads have in plaintext'));
  act<ThreadFlags & JobFlags>(encrypt, async (flags, settings, threads) => {
    const { encryptExistingCommand } = await import('./commands/threads-jobs.js');
    return await encryptExistingCommand(threads, flags, settled(flags, settings), output);
  });
  const rewrap = through('rewrap-deks [threads...]', 'move the keys of threads to the active KEK')
    .option('--all', 'of all threads')
    .option('--parallel <n>', 'threads at once, 4 unless given', upTo(1, MAX_PARALLEL));
  act<ThreadFlags & JobFlags>(rewrap, async (flags, settings, threads) => {
    const { rewrapDeksCommand } = await import('./commands/threads-jobs.js');
    return await rewrapDeksCommand(threads, flags, settled(flags, settings), output);
  });
}

/** What a job writes is encrypted as the policy says that the service has, too. */
function withFields(command: Command): Command {
  return command.option(
    '--fields <list>',
    'what of each body is encrypted, as body.card,body.items.*.note (PROGRESSDB_ENCRYPTION_FIELDS)',
  );
}

function jobOptions(command: Command): Command {
  return withFields(command)
    .option('--all', 'all threads')
    .option('--parallel <n>', 'threads at once, 4 unless given', upTo(1, MAX_PARALLEL))
    .option('--messages-per-second <n>', 'of each thread, at most; 0, unless given, is any number', upTo(0, MAX_RATE))
    .option('--concurrency <n>', 'batches of messages of each thread at once, 4 unless given', upTo(1, MAX_PARALLEL))
    .option('--keep-backups <days>', 'how long it can be taken back, 7 unless given; 0 keeps no backups', upTo(0, MAX_DAYS))
    .option('--dry-run', 'change nothing: count the messages and open each of them')
    .option('--no-wait', 'return once the jobs have begun, where a server runs them');
}

function addJobOrders(through: Through, settled: Settled, act: Act, output: Output): void {
  const jobs = through('jobs [job]', 'list jobs, the oldest first, or show one')
    .option('--limit <n>', 'at most so many, 100 unless given', upTo(1, MAX_PAGE))
    .option('--cursor <job>', 'go on after the job that a page before has named')
    .option('--reverse', 'the newest first');
  act<ThreadFlags & JobListFlags>(jobs, async (flags, settings, [job]) => {
    const { jobsCommand } = await import('./commands/threads.js');
    await jobsCommand(job, flags, settled(flags, settings), output);
  });
  for (const [order, text] of [
    ['pause', 'stop a job where it is'],
    ['cancel', 'end a job where it is: all messages stay readable, and the next job finishes it'],
  ] as const) {
    act<ThreadFlags>(through(`${order} <job>`, text), async (flags, settings, [job]) => {
      const { orderCommand } = await import('./commands/threads.js');
      await orderCommand(order, job as string, settled(flags, settings), output);
    });
  }
  const resume = withFields(through('resume <job>', 'go on with a job')).option(
    '--no-wait',
    'return at once, where a server runs it',
  );
  act<ThreadFlags & JobFlags>(resume, async (flags, settings, [job]) => {
    const { resumeCommand } = await import('./commands/threads-jobs.js');
    return await resumeCommand(job as string, flags.wait !== false, settled(flags, settings), output);
  });
  const restore = through('restore-backup <job>', 'put back what a job has rewritten, where nobody has changed it since');
  act<ThreadFlags>(restore, async (flags, settings, [job]) => {
    const { restoreBackupCommand } = await import('./commands/threads.js');
    await restoreBackupCommand(job as string, settled(flags, settings), output);
  });
}

function upTo(least: number, most: number): (text: string) => number {
  return (text) => {
    if (/^\d{1,9}$/.test(text) && Number(text) >= least && Number(text) <= most) return Number(text);
    throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`);
  };
}
