import type { Pool, PoolClient } from 'pg';
import { KmsError } from '../../dist/errors.js';
import type { Entry, RangeQuery, ThreadStore, Unit } from '../../dist/threads/thread-store.js';

/** In one transaction: of two that make the table at once, one would fail although it says "if not exists". */
const SCHEMA =
  'select pg_advisory_xact_lock(7103); ' +
  'create table if not exists thread_entries (key text collate "C" primary key, value bytea not null)';
/** PostgreSQL's for "another transaction came between": nothing of this one happened. */
const SERIALIZATION_FAILURES = new Set(['40001', '40P01', '23505']);

/** Threads in PostgreSQL, for any number of services at once. `pool` stays the caller's. */
export async function openPostgresThreadStore(pool: Pool): Promise<ThreadStore> {
  await asked(() => pool.query(SCHEMA));
  return new PostgresThreadStore(pool);
}

class PostgresThreadStore implements ThreadStore {
  readonly isShared = true;
  readonly #pool: Pool;
  #isClosed = false;

  constructor(pool: Pool) {
    this.#pool = pool;
  }

  async get(keys: readonly string[]): Promise<Array<Uint8Array | undefined>> {
    const found = await this.#query('select key, value from thread_entries where key = any($1)', [keys]);
    const values = new Map(found.map(({ key, value }) => [key, value]));
    return keys.map((key) => values.get(key)?.slice());
  }

  /** How long values are, PostgreSQL knows without reading them: only those of the page are read. */
  range({ from, to, limit, bytes = Number.MAX_SAFE_INTEGER, reverse = false }: RangeQuery): Promise<Entry[]> {
    const order = `order by key ${reverse ? 'desc' : 'asc'}`;
    const page = `select * from thread_entries where key >= $1 and key < $2 ${order} limit $3`;
    const sized = `select *, sum(octet_length(value)) over (${order}) - octet_length(value) as before from (${page}) as page`;
    return this.#query(`select key, value from (${sized}) as sized where before < $4 ${order}`, [from, to, limit, bytes]);
  }

  /** One transaction for all units. What they expect is read once; a unit sees what those before it change. */
  async commit(units: readonly Unit[]): Promise<boolean[]> {
    for (;;) {
      try {
        return await this.#transaction((client) => apply(client, units));
      } catch (error) {
        if (!SERIALIZATION_FAILURES.has((error as { code?: string }).code ?? '')) throw storeError(error);
      }
    }
  }

  /** Dead rows stay in PostgreSQL's pages until they are rewritten. It locks the table meanwhile. */
  async compact(): Promise<void> {
    await this.#query('vacuum full thread_entries', []);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
  }

  async #query(text: string, values: unknown[]): Promise<Entry[]> {
    this.#refuseClosed();
    return (await asked(() => this.#pool.query<Entry>(text, values))).rows;
  }

  async #transaction<T>(work: (client: PoolClient) => Promise<T>): Promise<T> {
    this.#refuseClosed();
    const client = await this.#pool.connect();
    try {
      await client.query('begin isolation level serializable');
      const result = await work(client);
      await client.query('commit');
      return result;
    } catch (error) {
      await client.query('rollback').catch(() => {});
      throw error;
    } finally {
      client.release();
    }
  }

  #refuseClosed(): void {
    if (this.#isClosed) throw new KmsError('STORE_UNAVAILABLE', 'the store is closed');
  }
}

async function apply(client: PoolClient, units: readonly Unit[]): Promise<boolean[]> {
  const expected = units.flatMap(({ expect }) => expect.map(({ key }) => key));
  const found = await client.query<Entry>('select key, value from thread_entries where key = any($1)', [expected]);
  /** As the units before have left it: null for what is not there. */
  const state = new Map<string, Uint8Array | null>(found.rows.map(({ key, value }) => [key, value]));
  const changes = new Map<string, Uint8Array | null>();
  const made = units.map(({ expect, put, remove }) => {
    const holds = expect.every(({ key, value }) => isSame(state.get(key) ?? undefined, value));
    if (!holds) return false;
    for (const key of remove) changes.set(key, null);
    for (const { key, value } of put) changes.set(key, value);
    for (const key of [...remove, ...put.map((entry) => entry.key)]) state.set(key, changes.get(key) ?? null);
    return true;
  });
  const removed = [...changes].filter(([, value]) => value === null).map(([key]) => key);
  const kept = [...changes].filter((change): change is [string, Uint8Array] => change[1] !== null);
  if (removed.length > 0) await client.query('delete from thread_entries where key = any($1)', [removed]);
  if (kept.length > 0) {
    const text =
      'insert into thread_entries select * from unnest($1::text[], $2::bytea[]) ' +
      'on conflict (key) do update set value = excluded.value';
    await client.query(text, [kept.map(([key]) => key), kept.map(([, value]) => Buffer.from(value))]);
  }
  return made;
}

function isSame(found: Uint8Array | undefined, expected: Uint8Array | undefined): boolean {
  return found === undefined || expected === undefined ? found === expected : Buffer.compare(found, expected) === 0;
}

function storeError(cause: unknown): KmsError {
  if (cause instanceof KmsError) return cause;
  return new KmsError('STORE_UNAVAILABLE', `PostgreSQL: ${(cause as Error).message}`, { cause });
}

async function asked<T>(query: () => Promise<T>): Promise<T> {
  try {
    return await query();
  } catch (error) {
    throw storeError(error);
  }
}
