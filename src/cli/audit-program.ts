import { type Command, InvalidArgumentError } from 'commander';
import type { Act } from './act.js';
import type { VerifyOptions } from './commands/audit.js';
import type { TailOptions } from './commands/audit-tail.js';
import type { Output } from './output.js';

/** What reads the audit log. None of it needs a daemon or a master key. */
export function addAudit(program: Command, act: Act, output: Output): void {
  const audit = program.command('audit').description('verify and read the audit log');
  const verify = audit
    .command('verify [paths...]')
    .description('look for the first line that is wrong, in files or directories; of the data directory unless given')
    .requiredOption('--key <key>', 'the first public key, or the file that holds it')
    .option('--auditor-key <file>', 'private key of the auditor, to check the HMAC of every line')
    .option('--anchor <file>', 'lines that `audit anchor` printed, which must still be there')
    .option('--accept-rollback <seq>', 'a start with an older keyring that was meant; may be repeated', seqs)
    .option('--independent', 'with the second verifier, which shares nothing with the first one');
  act<VerifyOptions>(verify, async (options, settings, paths) => {
    const { verifyCommand } = await import('./commands/audit.js');
    return await verifyCommand(options, paths, settings, output);
  });
  const tail = audit
    .command('tail [path]')
    .description('show the last events')
    .option('-n, --lines <n>', 'so many, 20 unless given', count)
    .option('-f, --follow', 'and those that come');
  act<TailOptions>(tail, async (options, settings, [path]) => {
    const { tailCommand } = await import('./commands/audit-tail.js');
    await tailCommand(options, path, settings, output);
  });
  act(
    audit.command('export-key [path]').description('print the first public key, to verify with'),
    async (_, settings, paths) => {
      const { exportKeyCommand } = await import('./commands/audit.js');
      await exportKeyCommand(paths, settings, output);
    },
  );
  act(
    audit.command('anchor [path]').description('print the newest checkpoint, to keep elsewhere'),
    async (_, settings, paths) => {
      const { anchorCommand } = await import('./commands/audit.js');
      await anchorCommand(paths, settings, output);
    },
  );
  const newKey = audit
    .command('new-auditor-key <file>')
    .description('make a private key for the auditor and print the public one');
  act(newKey, async (_, _settings, [file]) => {
    const { newAuditorKeyCommand } = await import('./commands/audit.js');
    newAuditorKeyCommand(file as string, output);
  });
}

function count(text: string): number {
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new InvalidArgumentError('It must be a whole number from 1 to 999999.');
  return Number(text);
}

function seqs(text: string, before: number[] = []): number[] {
  if (!/^[1-9]\d{0,14}$/.test(text)) throw new InvalidArgumentError('It must be the `seq` of a line.');
  return [...before, Number(text)];
}
