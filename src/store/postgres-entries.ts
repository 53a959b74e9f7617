import { KmsError } from '../errors.js';
import { KEY_ID_PATTERN, ROTATION_ID_PATTERN } from '../limits.js';
import { DamagedDocument, type StoredEntries, type StoredEntry } from './key-store.js';
import { unpacked } from './packed.js';
import type { Database } from './postgres-database.js';

interface Place {
  kind: keyof typeof PUT;
  rotationId: string;
  keyId: string;
}

const KINDS = ['b', 'k', 'r', 's'] as const;
/** Of each kind, in the order of its names, which is that of its rows: no id of a rotation is the beginning of another. */
const PAGE = {
  b: "select 'b/' || rotation_id || '/' || key_id as name, packed as bytes from backups where not is_aside and (rotation_id, key_id) > ($1, $2) order by rotation_id, key_id limit $3",
  k: "select 'k/' || rotation_id as name, document as bytes from kept_keyrings where rotation_id > $1 and $2 = '' order by rotation_id limit $3",
  r: "select 'r/' || key_id as name, packed as bytes from records where $1 = '' and key_id > $2 order by key_id limit $3",
  s: "select 's/' || rotation_id || '/' || key_id as name, packed as bytes from backups where is_aside and (rotation_id, key_id) > ($1, $2) order by rotation_id, key_id limit $3",
} as const;

const PUT = {
  b: 'insert into backups values ($1, $2, false, $3) on conflict (rotation_id, key_id, is_aside) do update set packed = excluded.packed',
  s: 'insert into backups values ($1, $2, true, $3) on conflict (rotation_id, key_id, is_aside) do update set packed = excluded.packed',
  k: 'insert into kept_keyrings values ($1, $2) on conflict (rotation_id) do update set document = excluded.document',
  r:
    'insert into records values ($1, $2, $3, $4, $5) on conflict (key_id) do update set version = excluded.version, ' +
    'state = excluded.state, kek_id = excluded.kek_id, packed = excluded.packed',
};

function placeOf(name: string): Place {
  const [kind, ...ids] = name.split('/') as [Place['kind'], ...string[]];
  const rotationId = kind === 'r' ? '' : (ids.shift() ?? '');
  const keyId = kind === 'k' ? '' : (ids.shift() ?? '');
  const isOne = (kind === 'r' || ROTATION_ID_PATTERN.test(rotationId)) && (kind === 'k' || KEY_ID_PATTERN.test(keyId));
  if (!(kind in PUT) || !isOne || ids.length > 0) throw new KmsError('INVALID_ARGUMENT', 'not the name of an entry');
  return { kind, rotationId, keyId };
}

function checked(name: string, bytes: Uint8Array): StoredEntry {
  if (name.startsWith('k/')) return { name, bytes };
  try {
    const { keyId } = unpacked(bytes);
    return name.endsWith(`/${keyId}`) ? { name, bytes } : { name, fault: `swapped: the row holds the record of ${keyId}` };
  } catch (error) {
    if (error instanceof DamagedDocument) return { name, fault: error.message };
    throw error;
  }
}

/** For moving a store, before any daemon uses it or after the last one has. */
export class PostgresEntries implements StoredEntries {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async page(after: string | undefined, limit: number): Promise<StoredEntry[]> {
    const found: StoredEntry[] = [];
    for (const kind of KINDS) {
      if (found.length === limit || (after !== undefined && kind < (after[0] as string))) continue;
      const { rotationId, keyId } = after?.[0] === kind ? placeOf(after) : { rotationId: '', keyId: '' };
      const values = [rotationId, keyId, limit - found.length];
      const { rows } = await this.#database.query<{ name: string; bytes: Buffer }>(PAGE[kind], values);
      found.push(...rows.map(({ name, bytes }) => checked(name, bytes)));
    }
    return found;
  }

  async put(entries: ReadonlyArray<{ name: string; bytes: Uint8Array }>): Promise<void> {
    await this.#database.transaction(async (client) => {
      for (const { name, bytes } of entries) {
        const { kind, rotationId, keyId } = placeOf(name);
        if (kind === 'k') await client.query(PUT.k, [rotationId, bytes]);
        else if (kind !== 'r') await client.query(PUT[kind], [rotationId, keyId, bytes]);
        else {
          const { version, state, kekId } = unpacked(bytes);
          await client.query(PUT.r, [keyId, version, state, kekId, bytes]);
        }
      }
    });
  }

  async remove(names: readonly string[]): Promise<void> {
    await this.#database.transaction(async (client) => {
      for (const name of names) {
        const { kind, rotationId, keyId } = placeOf(name);
        if (kind === 'r') await client.query('delete from records where key_id = $1', [keyId]);
        else if (kind === 'k') await client.query('delete from kept_keyrings where rotation_id = $1', [rotationId]);
        else {
          const text = 'delete from backups where rotation_id = $1 and key_id = $2 and is_aside = $3';
          await client.query(text, [rotationId, keyId, kind === 's']);
        }
      }
    });
  }
}
