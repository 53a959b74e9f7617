import { databaseOfPrefix, noDatabase, partsOf, refuseLong, refuseUnlessSame } from './document-names.js';
import type { SealedDocuments } from './key-store.js';
import type { Database } from './postgres-database.js';

/** Held while a document is written into a database: who drops that waits, or has dropped it before. */
const HOLD = "select 1 from sealed_documents where database = $1 and inner_name = '' for share";
const INSERT =
  'insert into sealed_documents (database, inner_name, document, kek_id) values ($1, $2, $3, $4) on conflict do nothing';
const UPDATE = 'update sealed_documents set document = $3, kek_id = $4 where database = $1 and inner_name = $2 and document = $5';
const READ = 'select document from sealed_documents where database = $1 and inner_name = $2';

/** Documents of client-sealed databases. Which of two writers was first decides the row. */
export class PostgresDocuments implements SealedDocuments {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async read(name: string): Promise<Uint8Array | undefined> {
    const [database, inner = ''] = partsOf(name);
    const { rows } = await this.#database.query<{ document: Buffer }>(READ, [database, inner], 'document');
    return rows[0]?.document;
  }

  async write(name: string, document: Uint8Array, before: Uint8Array | undefined, kekId?: string): Promise<void> {
    const [database, inner = ''] = partsOf(name);
    refuseLong(document);
    const row = [database, inner, Buffer.from(document), kekId ?? null];
    const expected = before && Buffer.from(before);
    await this.#database.transaction(async (client) => {
      if (inner !== '' && (await client.query(HOLD, [database])).rowCount === 0) throw noDatabase();
      const { rowCount } =
        expected === undefined ? await client.query(INSERT, row) : await client.query(UPDATE, [...row, expected]);
      if (rowCount === 1) return;
      const { rows } = await client.query<{ document: Buffer }>(READ, [database, inner]);
      refuseUnlessSame(rows[0]?.document, expected);
    });
  }

  async list(prefix: string, after: string | undefined, limit: number): Promise<string[]> {
    const database = databaseOfPrefix(prefix);
    const from = after?.slice(prefix.length) ?? '';
    const { rows } =
      database === undefined
        ? await this.#database.query<{ name: string }>(
            "select database as name from sealed_documents where inner_name = '' and database > $1 order by database limit $2",
            [from, limit],
          )
        : await this.#database.query<{ name: string }>(
            "select inner_name as name from sealed_documents where database = $1 and inner_name > $2 and inner_name <> '' " +
              'order by inner_name limit $3',
            [database, from, limit],
          );
    return rows.map(({ name }) => prefix + name);
  }

  async drop(name: string): Promise<void> {
    const [database] = partsOf(name);
    await this.#database.transaction(async (client) => {
      await client.query("delete from sealed_documents where database = $1 and inner_name = ''", [database]);
      await client.query('delete from sealed_documents where database = $1', [database]);
    });
  }
}
