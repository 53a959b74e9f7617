import { resolve } from 'node:path';
import { Failure } from '../failure.js';
import type { Chosen, Settings } from '../settings.js';

const DEFAULT_STORE = './kms-threads';

export interface ThreadFlags {
  store?: string;
  fields?: string;
  endpoint?: string;
  adminTokenFile?: string;
}

export interface ThreadSettings {
  /** Directory of the LMDB store, absolute. */
  store: Chosen;
  fields: string[];
  /** By the flag: the variable may be there for a server, too. */
  hasNamedFields: boolean;
  /** false: threads without keys, and no key service. */
  usesEncryption: boolean;
  mode: 'embedded' | 'external';
  endpoint: string | undefined;
  adminTokenFile: string | undefined;
  /** Those of all commands. */
  common: Settings;
}

/** Flags over environment over defaults. An empty variable counts as absent. */
export function threadSettingsOf(flags: ThreadFlags, common: Settings, env: NodeJS.ProcessEnv): ThreadSettings {
  const mode = env['PROGRESSDB_KMS_MODE'] || 'embedded';
  if (mode !== 'embedded' && mode !== 'external') {
    throw new Failure('USAGE', `PROGRESSDB_KMS_MODE must be embedded or external, not ${mode}`);
  }
  const fields = flags.fields || env['PROGRESSDB_ENCRYPTION_FIELDS'] || 'body';
  const store = chosen(flags.store, env['PROGRESSDB_THREADS_STORE']);
  return {
    store: { ...store, value: resolve(store.value) },
    fields: fields.split(',').map((field) => field.trim()),
    hasNamedFields: Boolean(flags.fields),
    usesEncryption: usesEncryption(env['PROGRESSDB_USE_ENCRYPTION']),
    mode,
    endpoint: flags.endpoint || env['PROGRESSDB_THREADS_ENDPOINT'] || undefined,
    adminTokenFile: flags.adminTokenFile || env['PROGRESSDB_THREADS_ADMIN_TOKEN_FILE'] || undefined,
    common,
  };
}

function chosen(flag: string | undefined, variable: string | undefined): Chosen {
  if (flag) return { value: flag, from: 'flag' };
  return variable ? { value: variable, from: 'environment' } : { value: DEFAULT_STORE, from: 'default' };
}

/** What is neither yes nor no must not turn encryption off. */
function usesEncryption(value = ''): boolean {
  if (value === '' || /^(true|1|yes)$/i.test(value)) return true;
  if (/^(false|0|no)$/i.test(value)) return false;
  throw new Failure('USAGE', `PROGRESSDB_USE_ENCRYPTION must be true or false, not ${value}`);
}
