// `npm start`: a store in ./kms-data with its master key file beside it, made on the first run, served on the default socket.
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { initialise, reportInitialised } from '../dist/cli/commands/init.js';
import { failureOf } from '../dist/cli/failure.js';
import { Output } from '../dist/cli/output.js';
import { run } from '../dist/cli/program.js';

const DATA_DIR = resolve('kms-data');
const KEY_FILE = resolve('kms-master.key');

const args = process.argv.slice(2);
const given = (name) => args.some((arg) => arg === name || arg.startsWith(`${name}=`));
const elsewhere =
  ['--dev', '--config', '--check-config', '--data-dir', '--master-key-file', '--master-key-fd', '--help', '-h', '--version'].some(
    given,
  ) || ['CONFIG', 'DATA_DIR', 'MASTER_KEY_FILE', 'MASTER_KEY_HEX'].some((name) => process.env[`PROGRESSDB_KMS_${name}`]);

async function start() {
  if (elsewhere) return await run(['serve', ...args]);
  const output = new Output(given('--json'), given('--verbose'));
  try {
    if (!existsSync(join(DATA_DIR, 'keyring.json'))) reportInitialised(await initialise({ dataDir: DATA_DIR }, KEY_FILE), output);
  } catch (error) {
    const failure = failureOf(error);
    output.failure(failure);
    return failure.exit;
  }
  return await run(['serve', '--data-dir', DATA_DIR, '--master-key-file', KEY_FILE, ...args]);
}

process.exitCode = await start();
