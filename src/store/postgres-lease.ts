import type { Client } from 'pg';
import { DEFAULT_STATEMENT_MS } from '../limits.js';
import { type Database, databaseError } from './postgres-database.js';
import type { Lease } from './shared-store.js';

/** An advisory lock belongs to a session: the server lets go of it as soon as it sees that its client is gone. */
export const LOCK = '(hashtext($1), hashtext($2))';

export function nameOf({ schema }: Database, name: string): [string, string] {
  return [`progressdb-kms/${name}`, schema];
}

async function asked(client: Client, text: string, values: string[]): Promise<Record<string, unknown>> {
  try {
    return (await client.query(text, values)).rows[0];
  } catch (error) {
    void client.end().catch(() => undefined);
    throw databaseError(error);
  }
}

/** Undefined while another session has it. */
export async function lease(database: Database, name: string): Promise<Lease | undefined> {
  const client = await database.connect(DEFAULT_STATEMENT_MS);
  const lost = new AbortController();
  client.on('end', () => lost.abort());
  client.on('error', () => lost.abort());
  const { taken } = await asked(client, `select pg_try_advisory_lock${LOCK} as taken`, nameOf(database, name));
  if (taken !== true) {
    await client.end().catch(() => undefined);
    return undefined;
  }
  return { lost: lost.signal, release: () => client.end().catch(() => undefined) };
}

/** Waits for as long as another one works. */
export async function exclusively<T>(database: Database, name: string, work: () => Promise<T>): Promise<T> {
  const client = await database.connect(0);
  await asked(client, `select pg_advisory_lock${LOCK}`, nameOf(database, name));
  try {
    return await work();
  } finally {
    await client.end().catch(() => undefined);
  }
}
