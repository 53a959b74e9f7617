import type { PostgresSettings } from '../../store/postgres-settings.js';
import { NAMES, type Name, titleOf, type Values } from './schema.js';
import { refusal, type Setting } from './setting.js';

const OF_POSTGRES = NAMES.filter((name) => name.startsWith('postgres'));

/** Throws one line for a database that is not named, named twice, or named for nothing. */
export function refuseHalfPostgres(settings: ReadonlyMap<Name, readonly Setting[]>, values: Values): void {
  const { store, postgresUrl, postgresUrlFile } = values;
  if (store !== 'postgres') {
    // The environment may be for other commands.
    const alone = OF_POSTGRES.flatMap((name) => settings.get(name)?.slice(0, 1) ?? []).find(({ from }) => from !== 'environment');
    if (alone !== undefined) throw refusal(alone, 'means nothing without store: postgres', true);
    return;
  }
  if (postgresUrl === undefined && postgresUrlFile === undefined) {
    const given = settings.get('store')?.[0] as Setting;
    throw refusal(given, `postgres needs ${titleOf('postgresUrlFile')} or ${titleOf('postgresUrl')}`, true);
  }
  if (postgresUrl !== undefined && postgresUrlFile !== undefined) {
    const second = settings.get('postgresUrlFile')?.[0] as Setting;
    throw refusal(second, `the database is named already: ${settings.get('postgresUrl')?.[0]?.source}; name it once`, true);
  }
}

/** Of values that `refuseHalfPostgres` let pass. */
export function postgresOf(values: Omit<Values, 'socket' | 'endpoint'>): PostgresSettings {
  const { postgresUrl, postgresUrlFile, postgresCaFile } = values;
  return {
    kind: 'postgres',
    ...(postgresUrl === undefined ? {} : { url: postgresUrl }),
    ...(postgresUrlFile === undefined ? {} : { urlFile: postgresUrlFile }),
    ...(postgresCaFile === undefined ? {} : { caFile: postgresCaFile }),
    schema: values.postgresSchema,
    connections: values.postgresConnections,
    statementMs: values.postgresStatementMs,
    staleAfterMs: values.postgresStaleAfterMs,
  };
}
