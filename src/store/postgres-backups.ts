import { KmsError } from '../errors.js';
import { ROTATION_ID_PATTERN } from '../limits.js';
import { DamagedDocument, type KeyMeta, type RecordBackups } from './key-store.js';
import { unpacked } from './packed.js';
import type { Database } from './postgres-database.js';

/** Rows that one statement removes of a rotation. */
const SLICE = 5_000;

/** The key of the row and the record in it must be one: rows can be swapped by whoever writes the database. */
export function recordOf(keyId: string, bytes: Uint8Array): KeyMeta {
  const record = unpacked(bytes);
  if (record.keyId !== keyId) throw new DamagedDocument(`swapped: the row holds the record of ${record.keyId}`);
  return record;
}

function checked(rotationId: string): string {
  if (!ROTATION_ID_PATTERN.test(rotationId)) throw new KmsError('INVALID_ARGUMENT', 'not a rotation id');
  return rotationId;
}

/**
 * Records of rotations. A record is taken with its row held, so that the destruction of its key comes before that, and there is
 * nothing left to keep, or after it, and removes what was kept in its own transaction.
 */
export class PostgresBackups implements RecordBackups {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async keep(rotationId: string, keyId: string): Promise<void> {
    const text =
      'with found as materialized (select key_id, packed from records where key_id = $2 for share), ' +
      'kept as (insert into backups select $1, key_id, false, packed from found on conflict do nothing) select key_id from found';
    const { rowCount } = await this.#database.query(text, [checked(rotationId), keyId], 'keep');
    if (rowCount !== 1) throw new KmsError('KEY_NOT_FOUND');
  }

  async keepKeyring(rotationId: string): Promise<void> {
    const text =
      'with found as materialized (select document from keyring for share), ' +
      'kept as (insert into kept_keyrings select $1, document from found on conflict do nothing) select 1 from found';
    const { rowCount } = await this.#database.query(text, [checked(rotationId)]);
    if (rowCount !== 1) throw new KmsError('STORE_UNAVAILABLE', 'there is no keyring to keep');
  }

  async read(rotationId: string, keyId: string): Promise<KeyMeta | undefined> {
    const text = 'select packed from backups where rotation_id = $1 and key_id = $2 order by is_aside limit 1';
    const { rows } = await this.#database.query<{ packed: Buffer }>(text, [checked(rotationId), keyId], 'backup');
    const [row] = rows;
    return row && recordOf(keyId, row.packed);
  }

  async listKeyIds(rotationId: string, after: string | undefined, limit: number): Promise<string[]> {
    const text = 'select distinct key_id from backups where rotation_id = $1 and key_id > $2 order by key_id limit $3';
    const { rows } = await this.#database.query<{ key_id: string }>(text, [checked(rotationId), after ?? '', limit]);
    return rows.map(({ key_id }) => key_id);
  }

  async list(): Promise<string[]> {
    const text =
      'select rotation_id from (select rotation_id from backups union select rotation_id from kept_keyrings) as kept ' +
      "order by split_part(substr(rotation_id, 2), '-', 1)::bigint, rotation_id";
    const { rows } = await this.#database.query<{ rotation_id: string }>(text);
    return rows.map(({ rotation_id }) => rotation_id);
  }

  /**
   * In slices, each a statement of its own that has the time of one, the keyring first: what was a master key before is soonest of no
   * use. What a crash leaves of it is still listed, and dropped by the next one.
   */
  async drop(rotationId: string): Promise<void> {
    await this.#database.query('delete from kept_keyrings where rotation_id = $1', [checked(rotationId)]);
    const slice =
      'delete from backups where ctid = any(array(select ctid from backups where rotation_id = $1 limit $2)) and rotation_id = $1';
    for (let gone: number | null = SLICE; gone === SLICE; ) {
      gone = (await this.#database.query(slice, [rotationId, SLICE], 'drop')).rowCount;
    }
  }

  async dropKeyrings(): Promise<void> {
    await this.#database.query('delete from kept_keyrings');
  }

  async forget(keyId: string): Promise<void> {
    await this.#database.query('delete from backups where key_id = $1', [keyId], 'forget');
  }

  async setAside(rotationId: string, keyId: string): Promise<void> {
    const kept = await this.#database.transaction(async (client) => {
      const { rows } = await client.query('delete from records where key_id = $1 returning packed', [keyId]);
      if (rows.length === 0) return false;
      await client.query(
        'insert into backups select $1, $2, exists (select 1 from backups where rotation_id = $1 and key_id = $2 and not is_aside), $3 ' +
          'on conflict (rotation_id, key_id, is_aside) do update set packed = excluded.packed',
        [checked(rotationId), keyId, rows[0].packed],
      );
      return true;
    });
    if (!kept) throw new KmsError('KEY_NOT_FOUND');
  }
}
