import { KmsError } from '../errors.js';
import type { SealedDocuments } from './key-store.js';
import type { Database } from './postgres-database.js';

const NAME = /^[0-9a-f]{32}(\/[0-9a-f]{32})?$/;

function checked(name: string): string {
  if (!NAME.test(name)) throw new KmsError('INVALID_ARGUMENT', 'not the name of a document');
  return name;
}

/** Documents of client-sealed databases. Which of two writers was first decides the row. */
export class PostgresDocuments implements SealedDocuments {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async read(name: string): Promise<Uint8Array | undefined> {
    const text = 'select document from sealed_documents where name = $1';
    const { rows } = await this.#database.query<{ document: Buffer }>(text, [checked(name)], 'document');
    return rows[0]?.document;
  }

  async write(name: string, document: Uint8Array, before: Uint8Array | undefined): Promise<void> {
    const { rowCount } =
      before === undefined
        ? await this.#database.query('insert into sealed_documents values ($1, $2) on conflict do nothing', [
            checked(name),
            document,
          ])
        : await this.#database.query('update sealed_documents set document = $2 where name = $1 and document = $3', [
            checked(name),
            document,
            before,
          ]);
    if (rowCount !== 1) throw new KmsError('CONFLICT', 'the document is another one by now');
  }

  async list(prefix: string, after: string | undefined, limit: number): Promise<string[]> {
    const text =
      "select name from sealed_documents where starts_with(name, $1) and ($1 <> '' or length(name) = 32) and name > $2 " +
      'order by name limit $3';
    const { rows } = await this.#database.query<{ name: string }>(text, [prefix, after ?? '', limit]);
    return rows.map(({ name }) => name);
  }

  async drop(database: string): Promise<void> {
    await this.#database.query('delete from sealed_documents where name = $1 or starts_with(name, $2)', [
      checked(database),
      `${database}/`,
    ]);
  }
}
