import type { Service } from '../operations.js';
import { counter, each, gauge, one, type Series } from './series.js';

const OUTCOMES = ['ok', 'refused', 'failed'] as const;
const LIMITS = ['databases_per_identity', 'keys_per_database', 'open'] as const;

/** Of client-sealed databases only what all of them come to: no figure is of one, and no label says which. */
export function databaseSeries(kms: Service['kms']): Series[] {
  return [
    gauge('databases_open', 'Client-sealed databases that somebody has open.', () => one(kms.openDatabases)),
    counter('database_openings_total', 'Secrets that were tried on the databases; over HTTP each request is one.', () =>
      each('outcome', OUTCOMES, (outcome) => kms.databaseCounts.openings(outcome)),
    ),
    counter('database_limit_refusals_total', 'Refusals by a limit of databases.', () =>
      each('limit', LIMITS, (limit) => kms.databaseCounts.refusals(limit)),
    ),
  ];
}
