import { resolve } from 'node:path';
import { type CallerFile, type CallerFiles, callerFilesIn } from '../client/caller-files.js';
import { DEFAULT_DATA_DIR, DEFAULT_SOCKET } from '../daemon/defaults.js';
import { postgresIn } from '../store/postgres-environment.js';
import type { PostgresSettings } from '../store/postgres-settings.js';
import { CALLER_OPTIONS } from './caller-options.js';

/** The options every command takes, before or after its name. */
export interface CommonFlags extends Partial<Record<CallerFile, string>> {
  socket?: string;
  dataDir?: string;
  masterKeyFile?: string;
  serverUids?: number[];
  json?: boolean;
  verbose?: boolean;
}

/** A value and who gave it: what was asked for by name is not replaced by something else. */
export interface Chosen {
  value: string;
  from: 'flag' | 'environment' | 'default';
}

export interface Settings {
  /** Where a daemon is looked for. */
  address: Chosen;
  /** Absolute. */
  dataDir: Chosen;
  masterKeyFile: string | undefined;
  /** The database that the environment names, where that is the store. */
  postgres: PostgresSettings | undefined;
  /** Users a daemon may run as, beside our own and root. */
  serverUids: number[];
  /** What shows a daemon who calls. */
  caller: CallerFiles;
  /** Those of them that options named. */
  callerFlags: readonly CallerFile[];
  json: boolean;
  verbose: boolean;
}

/** Flags over environment over defaults. An empty variable counts as absent, as shells and units leave them. */
export function settingsOf(flags: CommonFlags, env: NodeJS.ProcessEnv): Settings {
  const dataDir = choose(flags.dataDir, [env['PROGRESSDB_KMS_DATA_DIR']], DEFAULT_DATA_DIR);
  const masterKeyFile =
    flags.masterKeyFile || env['PROGRESSDB_KMS_MASTER_KEY_FILE'] || env['PROGRESSDB_MINIKMS_MASTER_KEY_FILE'] || undefined;
  const callerFlags = (Object.keys(CALLER_OPTIONS) as CallerFile[]).filter((file) => flags[file]);
  const named = callerFlags.map((file) => [file, { path: flags[file], by: CALLER_OPTIONS[file] }]);
  return {
    address: choose(flags.socket, [env['PROGRESSDB_KMS_ENDPOINT'], env['PROGRESSDB_KMS_SOCKET']], DEFAULT_SOCKET),
    dataDir: { value: resolve(dataDir.value), from: dataDir.from },
    masterKeyFile: masterKeyFile === undefined ? undefined : resolve(masterKeyFile),
    postgres: postgresIn(env),
    serverUids: flags.serverUids ?? [],
    caller: { ...callerFilesIn(env), ...Object.fromEntries(named) },
    callerFlags,
    json: flags.json === true,
    verbose: flags.verbose === true,
  };
}

function choose(flag: string | undefined, variables: Array<string | undefined>, fallback: string): Chosen {
  if (flag) return { value: flag, from: 'flag' };
  const variable = variables.find((value) => value);
  return variable ? { value: variable, from: 'environment' } : { value: fallback, from: 'default' };
}
