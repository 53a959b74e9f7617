import { KmsError } from '../errors.js';
import {
  DEFAULT_DATABASE_CONNECTIONS,
  DEFAULT_SCHEMA,
  DEFAULT_STALE_AFTER_MS,
  DEFAULT_STATEMENT_MS,
  KEY_ID_PATTERN,
  MAX_KEYRING_BYTES,
} from '../limits.js';
import { binding } from '../native.js';
import { keyringJson } from './document-json.js';
import { readable, strictly } from './documents.js';
import {
  DamagedDocument,
  type KeyMeta,
  type KeyringChange,
  type KeyringDocument,
  type KeyStore,
  Superseded,
} from './key-store.js';
import { packed } from './packed.js';
import { PostgresBackups, recordOf } from './postgres-backups.js';
import { Database } from './postgres-database.js';
import { PostgresDocuments } from './postgres-documents.js';
import { PostgresEntries } from './postgres-entries.js';
import { migrate } from './postgres-schema.js';
import { PostgresShared } from './postgres-shared.js';
import { refuseUnlessNext } from './succession.js';

export interface PostgresStoreOptions {
  /** postgres://USER:PASSWORD@HOST:PORT/DATABASE; never repeated. */
  url: string;
  /** PEM of who signed the server's certificate; with it TLS is used on the machine itself, too. */
  authorities?: Uint8Array;
  /** `progressdb_kms` unless told. */
  schema?: string;
  connections?: number;
  statementMs?: number;
  staleAfterMs?: number;
  /** Tells this daemon from the others of the store, always in the same way. */
  daemonId: string;
  /** Only to look: the schema stays as it is. */
  inspect?: boolean;
}

/**
 * A store that several daemons share. Each write is one transaction that is told once it is durable; which of two daemons was first
 * decides the database. Every record is compared by its version, the keyring by its generation, and no record comes to
 * stand under a KEK that is not active any more: postgres-schema.ts.
 */
export async function openPostgresStore(options: PostgresStoreOptions): Promise<KeyStore> {
  const database = await Database.open({
    url: options.url,
    ...(options.authorities === undefined ? {} : { authorities: options.authorities }),
    schema: options.schema ?? DEFAULT_SCHEMA,
    connections: options.connections ?? DEFAULT_DATABASE_CONNECTIONS,
    statementMs: options.statementMs ?? DEFAULT_STATEMENT_MS,
  });
  try {
    await migrate(database, options.inspect !== true);
    return new PostgresStore(database, options.daemonId, options.staleAfterMs ?? DEFAULT_STALE_AFTER_MS);
  } catch (error) {
    await database.close();
    throw error;
  }
}

interface KeyringRow extends Record<string, unknown> {
  document: Buffer;
}

interface RecordRow extends Record<string, unknown> {
  packed: Buffer;
}

function checked(keyId: string): string {
  if (!KEY_ID_PATTERN.test(keyId)) throw new KmsError('INVALID_ARGUMENT', 'not a key id');
  return keyId;
}

function activeKekOf({ keks }: KeyringDocument): string {
  return keks.find(({ state }) => state === 'active')?.kekId ?? '';
}

const CREATE = 'insert into records (key_id, version, state, kek_id, packed) values ($1, $2, $3, $4, $5) on conflict do nothing';
const REPLACE =
  "update records set version = $2, state = $3, kek_id = $4, packed = $5 where key_id = $1 and version = $2 - 1 and state <> 'destroyed'";

class PostgresStore implements KeyStore {
  readonly backups: PostgresBackups;
  readonly sealed: PostgresDocuments;
  readonly entries: PostgresEntries;
  readonly shared: PostgresShared;
  readonly #database: Database;
  #keyringTurn: Promise<unknown> = Promise.resolve();

  constructor(database: Database, daemonId: string, staleAfterMs: number) {
    this.#database = database;
    this.backups = new PostgresBackups(database);
    this.sealed = new PostgresDocuments(database);
    this.entries = new PostgresEntries(database);
    this.shared = new PostgresShared(database, daemonId, staleAfterMs);
  }

  async readKeyring(): Promise<KeyringDocument | undefined> {
    const { rows } = await this.#database.query<KeyringRow>('select document from keyring', [], 'keyring');
    const [row] = rows;
    if (row === undefined) return undefined;
    if (row.document.length > MAX_KEYRING_BYTES) throw new DamagedDocument('it is too long');
    return strictly(binding.parseKeyring, row.document);
  }

  async writeKeyring(document: KeyringDocument, change?: KeyringChange): Promise<void> {
    const bytes = readable(binding.parseKeyring, keyringJson(document));
    const row = [document.storeId, document.generation, activeKekOf(document), bytes];
    // One after the other: of two keyrings the one given last must be the one that stays.
    const turn = this.#keyringTurn.then(() => this.#putKeyring(row, change));
    this.#keyringTurn = turn.catch(() => undefined);
    await turn;
  }

  /** The keyring's row is held until the audit keys stand under the new root key: who writes one of them asks for it, too. */
  async #putKeyring(row: unknown[], change: KeyringChange | undefined): Promise<void> {
    if (change === undefined) {
      const upsert =
        'insert into keyring (store_id, generation, active_kek, document) values ($1, $2, $3, $4) on conflict (only_one) ' +
        'do update set store_id = excluded.store_id, generation = excluded.generation, active_kek = excluded.active_kek, ' +
        'document = excluded.document';
      await this.#database.query(upsert, row);
      return;
    }
    await this.#database.transaction(async (client) => {
      const { rowCount } =
        change.before === 0
          ? await client.query(
              'insert into keyring (store_id, generation, active_kek, document) values ($1, $2, $3, $4) on conflict do nothing',
              row,
            )
          : await client.query(
              'update keyring set generation = $2, active_kek = $3, document = $4 where store_id = $1 and generation = $5',
              [...row, change.before],
            );
      if (rowCount !== 1) throw new Superseded('the keyring was written by another daemon');
      if (change.auditKey !== undefined) await this.shared.replaceAuditKeys(client, change.auditKey);
    });
  }

  async readRecord(keyId: string): Promise<KeyMeta | undefined> {
    const { rows } = await this.#database.query<RecordRow>(
      'select packed from records where key_id = $1',
      [checked(keyId)],
      'record',
    );
    const [row] = rows;
    return row && recordOf(keyId, row.packed);
  }

  async createRecord(record: KeyMeta): Promise<void> {
    const row = this.#row(record);
    const { rowCount } = await this.#database.query(CREATE, row, 'create');
    if (rowCount !== 1) throw new KmsError('CONFLICT', 'the key id is taken');
  }

  async replaceRecord(record: KeyMeta): Promise<void> {
    const row = this.#row(record);
    const { rowCount } = await this.#database.query(REPLACE, row, 'replace');
    if (rowCount === 1) return;
    refuseUnlessNext(await this.readRecord(record.keyId), record.version);
    throw new KmsError('CONFLICT', 'the record was written at the same time');
  }

  #row(record: KeyMeta): unknown[] {
    return [checked(record.keyId), record.version, record.state, record.kekId, packed(record)];
  }

  replaceRecordSync(): void {
    this.#refuseBlocking();
  }

  readRecordSync(): KeyMeta | undefined {
    return this.#refuseBlocking();
  }

  #refuseBlocking(): never {
    const what =
      'no synchronous call can wait for the database; the asynchronous form of it brings the key in, or more uses of it';
    throw new KmsError('UNSUPPORTED', what);
  }

  async listKeyIds(after: string | undefined, limit: number): Promise<string[]> {
    const text = 'select key_id from records where key_id > $1 order by key_id limit $2';
    const { rows } = await this.#database.query<{ key_id: string }>(text, [after ?? '', limit], 'list');
    return rows.map(({ key_id }) => key_id);
  }

  fault(): string | null {
    return this.shared.fault ?? this.#database.fault;
  }

  close(): Promise<void> {
    return this.#database.close();
  }
}
