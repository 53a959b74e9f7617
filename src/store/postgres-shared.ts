import type { PoolClient } from 'pg';
import type { AuditKey } from './key-store.js';
import { Superseded } from './key-store.js';
import type { Database } from './postgres-database.js';
import { exclusively, lease } from './postgres-lease.js';
import { PostgresWatch } from './postgres-watch.js';
import type { Lease, News, Peer, Report, SharedStore, ToldRotation, Watch } from './shared-store.js';

interface AuditRow extends Record<string, unknown> {
  daemon_id: string;
  place: number;
  public_key: Buffer;
  wrapped: Buffer;
  created_at: string;
}

interface PeerRow extends Record<string, unknown> {
  daemon_id: string;
  generation: string;
  slot_id: string;
}

function auditKeyOf(row: AuditRow): AuditKey {
  return { publicKey: new Uint8Array(row.public_key), wrapped: new Uint8Array(row.wrapped), createdAt: row.created_at };
}

export class PostgresShared implements SharedStore {
  readonly daemonId: string;
  readonly staleAfterMs: number;
  readonly #database: Database;
  #watch: PostgresWatch | undefined;

  constructor(database: Database, daemonId: string, staleAfterMs: number) {
    this.#database = database;
    this.daemonId = daemonId;
    this.staleAfterMs = staleAfterMs;
  }

  /** Why nothing was heard lately. */
  get fault(): string | null {
    return this.#watch?.fault ?? null;
  }

  watch(report: () => Report, news: News): Watch {
    const { daemonId, staleAfterMs } = this;
    this.#watch = new PostgresWatch(this.#database, { daemonId, staleAfterMs }, report, news);
    return this.#watch;
  }

  async peers(): Promise<Peer[]> {
    const text = 'select daemon_id, generation, slot_id from daemons where beaten_at > clock_timestamp() - alive_for';
    const { rows } = await this.#database.query<PeerRow>(text);
    return rows.map(({ daemon_id, generation, slot_id }) => ({
      daemonId: daemon_id,
      generation: Number(generation),
      slotId: slot_id,
    }));
  }

  lease(name: string): Promise<Lease | undefined> {
    return lease(this.#database, name);
  }

  exclusively<T>(name: string, work: () => Promise<T>): Promise<T> {
    return exclusively(this.#database, name, work);
  }

  async readAuditKeys(): Promise<AuditKey[]> {
    const text = 'select * from audit_keys where daemon_id = $1 order by place';
    const { rows } = await this.#database.query<AuditRow>(text, [this.daemonId]);
    return rows.map(auditKeyOf);
  }

  async writeAuditKeys(keys: AuditKey[], generation: number): Promise<void> {
    await this.#database.transaction(async (client) => {
      const { rows } = await client.query('select generation from keyring for share');
      if (Number(rows[0]?.generation) !== generation) throw new Superseded('the keyring was written by another daemon');
      await client.query('delete from audit_keys where daemon_id = $1', [this.daemonId]);
      for (const [place, { publicKey, wrapped, createdAt }] of keys.entries()) {
        const row = [this.daemonId, place, publicKey, wrapped, createdAt];
        await client.query('insert into audit_keys values ($1, $2, $3, $4, $5)', row);
      }
    });
  }

  /** In the transaction that brings another root key. */
  async replaceAuditKeys(client: PoolClient, replaced: (key: AuditKey) => AuditKey): Promise<void> {
    const { rows } = await client.query<AuditRow>('select * from audit_keys order by daemon_id, place');
    for (const row of rows) {
      const text = 'update audit_keys set wrapped = $3 where daemon_id = $1 and place = $2';
      await client.query(text, [row.daemon_id, row.place, replaced(auditKeyOf(row)).wrapped]);
    }
  }

  async readRotation(): Promise<ToldRotation | undefined> {
    const { rows } = await this.#database.query<{ rotation_id: string; status: string }>(
      'select rotation_id, status from rotation',
    );
    const [row] = rows;
    return row && { rotationId: row.rotation_id, status: row.status };
  }

  async writeRotation({ rotationId, status }: ToldRotation): Promise<void> {
    const text =
      'insert into rotation (rotation_id, status) values ($1, $2) on conflict (only_one) ' +
      'do update set rotation_id = excluded.rotation_id, status = excluded.status';
    await this.#database.query(text, [rotationId, status]);
  }
}
