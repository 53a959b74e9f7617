import { type Command, Help } from 'commander';
import type { CallerFile } from '../client/caller-files.js';
import { Failure } from './failure.js';

/** The options beside the variables of the same files. */
export const CALLER_OPTIONS: Readonly<Record<CallerFile, string>> = {
  tokenFile: '--token-file',
  caFile: '--ca-file',
  certFile: '--cert-file',
  keyFile: '--key-file',
};

export function addCallerOptions(program: Command): Command {
  return program
    .option('--token-file <file>', 'access token to call with (PROGRESSDB_KMS_TOKEN_FILE)')
    .option('--ca-file <file>', 'authorities of the certificate of the daemon, in PEM (PROGRESSDB_KMS_CA_FILE)')
    .option('--cert-file <file>', 'certificate chain to call with, in PEM (PROGRESSDB_KMS_CERT_FILE)')
    .option('--key-file <file>', 'and its key (PROGRESSDB_KMS_KEY_FILE)');
}

/** Of commands that call no daemon: what would do nothing is not silently taken. */
export function refuseCallerOptions([file]: readonly CallerFile[]): void {
  if (file !== undefined) throw new Failure('USAGE', `${CALLER_OPTIONS[file]} is for commands that call a daemon`);
}

/** Leaves them out of the help of commands that refuse them. */
export function helpWithout(isAlone: (command: Command) => boolean): Partial<Help> {
  const callers = new Set(Object.values(CALLER_OPTIONS));
  return {
    showGlobalOptions: true,
    visibleGlobalOptions(this: Help, command) {
      const all = Help.prototype.visibleGlobalOptions.call(this, command);
      return isAlone(command) ? all.filter(({ long }) => !callers.has(long ?? '')) : all;
    },
  };
}
