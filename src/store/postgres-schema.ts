import { KmsError } from '../errors.js';
import type { Database } from './postgres-database.js';

/** The oldest that its makers still mend. */
const LEAST_SERVER = 130_000;

/**
 * What stands beside the packed bytes of a record, and beside the document of the keyring, is what the server itself has to compare;
 * what counts for a daemon is in the bytes, under their MAC.
 *
 * `fence_record` is what keeps a daemon that was held up from writing under a KEK that another one is about to retire: it takes the
 * keyring's row in the transaction of the write, so that the write comes before the change of the keyring, which waits for it,
 * or after it, and then names a KEK that is not active any more.
 */
const TABLES = `
create table keyring (
  only_one boolean primary key default true check (only_one),
  store_id text not null,
  generation bigint not null,
  active_kek text not null,
  document bytea not null
);
create table records (
  key_id text collate "C" primary key,
  version bigint not null,
  state text not null,
  kek_id text not null,
  packed bytea not null
) with (fillfactor = 90);
create table backups (
  rotation_id text collate "C" not null,
  key_id text collate "C" not null,
  is_aside boolean not null,
  packed bytea not null,
  primary key (rotation_id, key_id, is_aside)
);
create index backups_of_key on backups (key_id);
create table kept_keyrings (rotation_id text collate "C" primary key, document bytea not null);
create table sealed_documents (
  database text collate "C" not null,
  inner_name text collate "C" not null,
  document bytea not null,
  primary key (database, inner_name)
);
create table daemons (
  daemon_id text collate "C" primary key,
  beaten_at timestamptz not null,
  alive_for interval not null,
  generation bigint not null,
  slot_id text not null
);
create table audit_keys (
  daemon_id text collate "C" not null,
  place smallint not null,
  public_key bytea not null,
  wrapped bytea not null,
  created_at text not null,
  primary key (daemon_id, place)
);
create table rotation (
  only_one boolean primary key default true check (only_one),
  rotation_id text not null,
  status text not null
);

create function fence_record() returns trigger language plpgsql set search_path from current as $$
declare
  active text;
begin
  select active_kek into active from keyring for share;
  if new.kek_id <> active and (tg_op = 'INSERT' or new.kek_id <> old.kek_id) then
    raise exception 'the key stands under a KEK that is not active' using errcode = 'KM001';
  end if;
  return new;
end $$;
create trigger fence before insert or update on records for each row execute function fence_record();

create function tell_record() returns trigger language plpgsql set search_path from current as $$
begin
  if tg_op = 'DELETE' then
    perform pg_notify('kms_' || tg_table_schema, old.key_id);
    return null;
  end if;
  if new.state <> old.state or new.kek_id <> old.kek_id then
    perform pg_notify('kms_' || tg_table_schema, new.key_id);
  end if;
  if new.state = 'destroyed' then
    delete from backups where key_id = new.key_id;
  end if;
  return null;
end $$;
create trigger tell after update or delete on records for each row execute function tell_record();

create function tell_keyring() returns trigger language plpgsql set search_path from current as $$
begin
  perform pg_notify('kms_' || tg_table_schema, '');
  return null;
end $$;
create trigger tell after insert or update or delete on keyring for each row execute function tell_keyring();
`;

/**
 * The document of a database is fenced like a record. What is in a database stands under no KEK, and what version 1 wrote names
 * none: neither is compared.
 */
const FENCED_DOCUMENTS = `
alter table sealed_documents add column kek_id text;

create function fence_document() returns trigger language plpgsql set search_path from current as $$
declare
  active text;
begin
  select active_kek into active from keyring for share;
  if new.kek_id <> active and (tg_op = 'INSERT' or new.kek_id is distinct from old.kek_id) then
    raise exception 'the database stands under a KEK that is not active' using errcode = 'KM001';
  end if;
  return new;
end $$;
create trigger fence before insert or update on sealed_documents for each row when (new.kek_id is not null)
  execute function fence_document();
`;

/** Never changed once released; what comes later comes after. */
const MIGRATIONS: readonly string[] = [TABLES, FENCED_DOCUMENTS];

/** Where news of the store are told. */
export function channelOf(schema: string): string {
  return `kms_${schema}`;
}

/** Without one of them an answer may say that something is done which a loss of power undoes. The last one a pooler may have kept from us. */
const DURABLE = ['fsync', 'full_page_writes', 'synchronous_commit'] as const;

async function refuseUnfit(database: Database): Promise<void> {
  const { rows } = await database.query<{ version: string; standby: boolean; off: string | null }>(
    "select current_setting('server_version_num') as version, pg_is_in_recovery() as standby, " +
      "(select name from unnest($1::text[]) as name where current_setting(name) = 'off' limit 1) as off",
    [DURABLE],
  );
  const [server] = rows;
  if (Number(server?.version) < LEAST_SERVER) throw new KmsError('UNSUPPORTED', 'PostgreSQL 13 or later is needed');
  if (server?.standby) throw new KmsError('STORE_UNAVAILABLE', 'PostgreSQL: this server is a standby, which takes no writes');
  if (typeof server?.off !== 'string') return;
  throw new KmsError(
    'STORE_UNAVAILABLE',
    `PostgreSQL: the server runs with ${server.off} = off, so that a crash can undo what it has said is done; set it to on`,
  );
}

/**
 * Brings the schema to what this version knows. One daemon at a time, each migration in the transaction that records it, so that
 * a crash leaves the schema of one version or of the next. UNSUPPORTED for one that a newer version has made, STORE_UNAVAILABLE for
 * one that would have to change and may not.
 */
export async function migrate(database: Database, mayChange = true): Promise<void> {
  await refuseUnfit(database);
  const { schema } = database;
  await database.transaction(async (client) => {
    await client.query('select pg_advisory_xact_lock(hashtext($1), hashtext($2))', ['progressdb-kms', schema]);
    const { rows: found } = await client.query('select to_regclass($1) as found', [`${schema}.migrations`]);
    if (found[0].found === null) {
      if (!mayChange) throw new KmsError('STORE_UNAVAILABLE', `the schema ${schema} holds no key store`);
      const { rows: made } = await client.query('select to_regnamespace($1) as found', [schema]);
      // One that was made for us may be all that this role is allowed.
      if (made[0].found === null) await client.query(`create schema ${schema}`);
      await client.query(
        `create table ${schema}.migrations (version integer primary key, applied_at timestamptz not null default now())`,
      );
    }
    const { rows } = await client.query(`select coalesce(max(version), 0) as version from ${schema}.migrations`);
    const version = Number(rows[0].version);
    if (version > MIGRATIONS.length) {
      throw new KmsError(
        'UNSUPPORTED',
        `the schema ${schema} has version ${version}; this progressdb-kms knows ${MIGRATIONS.length}`,
      );
    }
    if (!mayChange && version < MIGRATIONS.length) {
      throw new KmsError('STORE_UNAVAILABLE', `the schema ${schema} is of an older version; a start brings it up to date`);
    }
    for (const [index, text] of MIGRATIONS.entries()) {
      if (index < version) continue;
      await client.query(text);
      await client.query(`insert into ${schema}.migrations (version) values ($1)`, [index + 1]);
    }
  });
}
