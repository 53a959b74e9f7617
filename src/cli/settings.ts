import { resolve } from 'node:path';
import { type CallerFile, type CallerFiles, callerFilesIn } from '../client/caller-files.js';
import { DEFAULT_DATA_DIR, DEFAULT_SOCKET } from '../daemon/defaults.js';
import { postgresIn } from '../store/postgres-environment.js';
import type { PostgresSettings } from '../store/postgres-settings.js';
import { CALLER_OPTIONS } from './caller-options.js';
import { Failure } from './failure.js';
import { type KmsJson, readKmsJson } from './kms-json.js';

/** The options every command takes, before or after its name. */
export interface CommonFlags extends Partial<Record<CallerFile, string>> {
  socket?: string;
  dataDir?: string;
  masterKeyFile?: string;
  kmsJson?: string;
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
  /** A client's own file; read when it is first asked for, so that what needs none does not trip over it. */
  readonly kmsJson: KmsJson | undefined;
  /** Where a daemon is looked for. */
  readonly address: Chosen;
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

/** Flags over environment over a client's kms.json over defaults. An empty variable counts as absent, as shells and units leave them. */
export function settingsOf(flags: CommonFlags, env: NodeJS.ProcessEnv): Settings {
  const dataDir = choose(flags.dataDir, [env['PROGRESSDB_KMS_DATA_DIR']], DEFAULT_DATA_DIR);
  const masterKeyFile =
    flags.masterKeyFile || env['PROGRESSDB_KMS_MASTER_KEY_FILE'] || env['PROGRESSDB_MINIKMS_MASTER_KEY_FILE'] || undefined;
  const callerFlags = (Object.keys(CALLER_OPTIONS) as CallerFile[]).filter((file) => flags[file]);
  const named = callerFlags.map((file) => [file, { path: flags[file], by: CALLER_OPTIONS[file] }]);
  let read: { kmsJson: KmsJson | undefined } | undefined;
  const kmsJson = () => {
    read ??= { kmsJson: readKmsJson(flags.kmsJson) };
    return read.kmsJson;
  };
  return {
    get kmsJson() {
      return kmsJson();
    },
    get address() {
      const named = [env['PROGRESSDB_KMS_ENDPOINT'], env['PROGRESSDB_KMS_SOCKET']].find((value) => value);
      if (flags.socket || named) return choose(flags.socket, [named], DEFAULT_SOCKET);
      const url = kmsJson()?.serverUrl;
      // A file that an option names asks for what is in it by name.
      return flags.kmsJson ? choose(url, [], DEFAULT_SOCKET) : choose(undefined, [url], DEFAULT_SOCKET);
    },
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

/** Named as for every command that works without a daemon. */
export function databaseOf(settings: Settings): PostgresSettings {
  if (settings.postgres !== undefined) return settings.postgres;
  const hint = 'name the database with PROGRESSDB_KMS_STORE=postgres and PROGRESSDB_KMS_POSTGRES_URL_FILE=FILE';
  throw new Failure('USAGE', 'no database is given', hint);
}
