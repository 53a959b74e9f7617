import { readChecked } from '../checked-file.js';
import { KmsError } from '../errors.js';
import {
  MAX_DATABASE_CONNECTIONS,
  MAX_STALE_AFTER_MS,
  MAX_TIMER_MS,
  MAX_TLS_FILE_BYTES,
  MAX_URL_FILE_BYTES,
  MIN_STALE_AFTER_MS,
  MIN_STATEMENT_MS,
} from '../limits.js';
import type { KeyStore } from './key-store.js';
import { openPostgresStore } from './postgres.js';

/** A store in PostgreSQL, for several daemons: docs/RUNBOOK.md. */
export interface PostgresSettings {
  kind: 'postgres';
  /** postgres://USER:PASSWORD@HOST:PORT/DATABASE, or postgres:///DATABASE?host=/SOCKET/DIRECTORY&user=USER. Never shown. */
  url?: string;
  /** A file that holds the URL and no more, readable by its owner only; instead of it. */
  urlFile?: string;
  /** PEM of who signed the server's certificate; the authorities that Node brings unless told. */
  caFile?: string;
  /** `progressdb_kms` unless told. */
  schema?: string;
  /** Connections at once, beside two of their own; 10 unless told. */
  connections?: number;
  /** Milliseconds that one statement may take; 10,000 unless told. */
  statementMs?: number;
  /**
   * Milliseconds after which keys are refused while nothing is heard from the database, and so the longest that this process goes
   * on with a key that another one has disabled; 1,000 unless told.
   */
  staleAfterMs?: number;
}

const BOUNDS = {
  connections: [1, MAX_DATABASE_CONNECTIONS],
  statementMs: [MIN_STATEMENT_MS, MAX_TIMER_MS],
  staleAfterMs: [MIN_STALE_AFTER_MS, MAX_STALE_AFTER_MS],
} as const;

export function checkPostgresSettings(settings: PostgresSettings): void {
  for (const name of ['url', 'urlFile', 'caFile', 'schema'] as const) {
    const value: unknown = settings[name];
    if (value !== undefined && (typeof value !== 'string' || value === '')) {
      throw new KmsError('INVALID_ARGUMENT', `store.${name} must be text`);
    }
  }
  if ((settings.url === undefined) === (settings.urlFile === undefined)) {
    throw new KmsError('INVALID_ARGUMENT', 'give the database once: store.url or store.urlFile');
  }
  for (const name of ['connections', 'statementMs', 'staleAfterMs'] as const) {
    const value: unknown = settings[name];
    const [least, most] = BOUNDS[name];
    if (value === undefined || (Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most)) continue;
    throw new KmsError('INVALID_ARGUMENT', `store.${name} must be a whole number from ${least} to ${most}`);
  }
}

/** Throws INVALID_ARGUMENT for settings that cannot be, STORE_UNAVAILABLE for a database that cannot be had. */
export async function openPostgres(
  { kind: _kind, url, urlFile, caFile, ...settings }: PostgresSettings,
  daemonId: string,
  inspect = false,
): Promise<KeyStore> {
  const checked = { isSecret: false, maxBytes: MAX_TLS_FILE_BYTES };
  const authorities = caFile === undefined ? undefined : readChecked('the CA file of the database', caFile, checked);
  return openPostgresStore({
    ...settings,
    url: url ?? urlIn(urlFile as string),
    daemonId,
    inspect,
    ...(authorities === undefined ? {} : { authorities }),
  });
}

function urlIn(file: string): string {
  const checked = { isSecret: true, isOwned: true, maxBytes: MAX_URL_FILE_BYTES };
  return readChecked('the URL file of the database', file, checked).toString('utf8').trim();
}
