import type { PostgresSettings } from './postgres-settings.js';

/** The database that the environment names, for who has no configuration file; undefined if the store is another one. */
export function postgresIn(env: NodeJS.ProcessEnv): PostgresSettings | undefined {
  if (env['PROGRESSDB_KMS_STORE'] !== 'postgres') return undefined;
  const given = {
    url: env['PROGRESSDB_KMS_POSTGRES_URL'],
    urlFile: env['PROGRESSDB_KMS_POSTGRES_URL_FILE'],
    caFile: env['PROGRESSDB_KMS_POSTGRES_CA_FILE'],
    schema: env['PROGRESSDB_KMS_POSTGRES_SCHEMA'],
  };
  return { kind: 'postgres', ...Object.fromEntries(Object.entries(given).filter(([, value]) => value)) };
}
