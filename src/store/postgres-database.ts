import type { Client, ClientConfig, Pool, PoolClient, QueryResult } from 'pg';
import { KmsError } from '../errors.js';
import { Superseded } from './key-store.js';
import { addressOf, checkSchema, type PostgresAddress } from './postgres-address.js';

export interface DatabaseOptions {
  /** Never repeated: it holds a password. */
  url: string;
  /** PEM; the authorities that Node brings unless told. */
  authorities?: Uint8Array;
  schema: string;
  connections: number;
  statementMs: number;
}

type Row = Record<string, unknown>;
type Values = readonly unknown[];

/** Raised by our triggers: see postgres-schema.ts. */
const FENCED = 'KM001';
/** Of a server that is gone without a word its system tells within some ten seconds; of a client that is gone the server's. */
const KEEPALIVE = 'tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3';
const KEEPALIVE_MS = 5_000;
/** Whatever the role or the database has been given: an answer says that what it tells of is durable. */
const DURABLE = 'synchronous_commit=on';
/** A statement that the server should have ended long ago: the connection is. */
const GRACE_MS = 1_000;

/** Classes of SQLSTATE that say nothing about the database, but about what it was told. */
const OURS = /^(22|23|40|42|KM)/;

/** What the driver or the server says, as an error of the table. */
export function databaseError(cause: unknown): KmsError {
  if (cause instanceof KmsError) return cause;
  const { code, message } = cause as { code?: string; message?: string };
  if (code === FENCED) return new Superseded(`the keyring was written since: ${message}`);
  return new KmsError('STORE_UNAVAILABLE', reasonOf(cause), { cause });
}

/** The same for people who ask how the store is doing. */
export function reasonOf(cause: unknown): string {
  if (cause instanceof KmsError) return cause.cause === undefined ? cause.message : reasonOf(cause.cause);
  const { code, message } = cause as { code?: string; message?: string };
  return `PostgreSQL: ${message || code || 'failure'}`;
}

function sqlStateOf(error: unknown): string {
  const { code } = error as { code?: unknown };
  return typeof code === 'string' && code.length === 5 ? code : '';
}

/** `pg` and TLS are loaded where there is a database, and nowhere else. */
async function load() {
  try {
    return (await import('pg')).default;
  } catch (cause) {
    throw new KmsError('UNSUPPORTED', 'a store in PostgreSQL needs the package pg beside this one: npm install pg@8', { cause });
  }
}

async function tlsOf({ host, isVerified }: PostgresAddress, authorities: Uint8Array | undefined): Promise<ClientConfig['ssl']> {
  if (!isVerified) return false;
  const { checkServerIdentity } = await import('node:tls');
  return {
    ...(authorities === undefined ? {} : { ca: Buffer.from(authorities) }),
    rejectUnauthorized: true,
    minVersion: 'TLSv1.2',
    // The driver names no server to TLS where the host is a numeric address.
    checkServerIdentity: (_name, certificate) => checkServerIdentity(host, certificate),
  };
}

/** One database, as the store talks to it: a pool of connections, and some that are used for one purpose. */
export class Database {
  readonly schema: string;
  readonly #config: ClientConfig;
  readonly #newClient: (config: ClientConfig) => Client;
  readonly #pool: Pool;
  /** Connections beside those of the pool. */
  readonly #others = new Set<Client>();
  #fault: string | null = null;
  #busy = 0;
  #drained: (() => void) | undefined;
  #closing: Promise<void> | undefined;

  static async open(options: DatabaseOptions): Promise<Database> {
    const { url, authorities, statementMs } = options;
    const schema = checkSchema(options.schema);
    const { host, port, user, password, database, ...rest } = addressOf(url, authorities !== undefined);
    const pg = await load();
    const config: ClientConfig = {
      host,
      port,
      user,
      database,
      // A function keeps the driver from looking for one in the environment and in files of the user: '' would not.
      password: () => password ?? '',
      ssl: await tlsOf({ host, port, user, password, database, ...rest }, authorities),
      application_name: 'progressdb-kms',
      options: `-c search_path=${schema} -c ${DURABLE} -c ${KEEPALIVE}`,
      keepAlive: true,
      keepAliveInitialDelayMillis: KEEPALIVE_MS,
      connectionTimeoutMillis: statementMs,
      statement_timeout: statementMs,
      query_timeout: statementMs + GRACE_MS,
    };
    const pool = new pg.Pool({ ...config, max: options.connections });
    return new Database(schema, config, pool, (given) => new pg.Client(given));
  }

  private constructor(schema: string, config: ClientConfig, pool: Pool, newClient: (config: ClientConfig) => Client) {
    this.schema = schema;
    this.#config = config;
    this.#pool = pool;
    this.#newClient = newClient;
    // Of a connection that ends while nobody uses it; the next call takes another one. While it is used whoever uses it is told, and
    // an event that nobody heard would end the process.
    pool.on('error', () => {});
    pool.on('connect', (client) => client.on('error', () => {}));
  }

  /** Why the last thing that was asked of it could not be had; null since one could. */
  get fault(): string | null {
    return this.#fault;
  }

  /** `name`: of a statement that the server shall remember. */
  async query<R extends Row>(text: string, values: Values = [], name?: string): Promise<QueryResult<R>> {
    const query = { text, values: [...values], ...(name === undefined ? {} : { name }) };
    return this.#with((client) => client.query<R>(query));
  }

  /** All of it, or none: where its end is not told, either. */
  transaction<T>(work: (client: PoolClient) => Promise<T>): Promise<T> {
    return this.#with(async (client) => {
      await client.query('begin');
      try {
        const result = await work(client);
        await client.query('commit');
        return result;
      } catch (error) {
        await client.query('rollback').catch(() => undefined);
        throw error;
      }
    });
  }

  async #with<T>(work: (client: PoolClient) => Promise<T>): Promise<T> {
    if (this.#closing !== undefined) throw new KmsError('STORE_UNAVAILABLE', 'the store is closed');
    this.#busy += 1;
    try {
      const client = await this.#pool.connect();
      return await this.#used(client, work);
    } catch (error) {
      const told = databaseError(error);
      if (told.code === 'STORE_UNAVAILABLE' && !OURS.test(sqlStateOf(error))) this.#fault = reasonOf(error);
      throw told;
    } finally {
      this.#busy -= 1;
      if (this.#busy === 0) this.#drained?.();
    }
  }

  async #used<T>(client: PoolClient, work: (client: PoolClient) => Promise<T>): Promise<T> {
    let isSound = false;
    try {
      const result = await work(client);
      isSound = true;
      this.#fault = null;
      return result;
    } catch (error) {
      // What the server has answered leaves the connection as it was; after anything else nobody knows what is still to come.
      isSound = error instanceof KmsError || OURS.test(sqlStateOf(error));
      throw error;
    } finally {
      client.release(!isSound);
    }
  }

  /** A connection of its own; whoever has it ends it, or `close` does. `statementMs`: 0 for statements that wait for others. */
  async connect(statementMs: number): Promise<Client> {
    if (this.#closing !== undefined) throw new KmsError('STORE_UNAVAILABLE', 'the store is closed');
    const config = {
      ...this.#config,
      statement_timeout: statementMs,
      query_timeout: statementMs === 0 ? 0 : statementMs + GRACE_MS,
    };
    const client = this.#newClient(config);
    // Told to whoever waits for a statement, and by its end.
    client.on('error', () => {});
    client.on('end', () => this.#others.delete(client));
    this.#others.add(client);
    try {
      await client.connect();
      return client;
    } catch (error) {
      void client.end().catch(() => undefined);
      throw databaseError(error);
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#finish();
    return this.#closing;
  }

  /** The driver's own end forgets who still waits for a connection. */
  async #finish(): Promise<void> {
    // One of them may wait for another daemon, for as long as that works.
    for (const client of this.#others) void client.end().catch(() => undefined);
    if (this.#busy > 0) {
      await new Promise<void>((resolve) => {
        this.#drained = resolve;
      });
    }
    await this.#pool.end();
  }
}
