import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';
import { KmsError } from '../errors.js';
import { BEATS_PER_STALE_AFTER, DATABASE_RETRY_MS, FORGOTTEN_DAEMON_DAYS, KEY_ID_PATTERN } from '../limits.js';
import { binding } from '../native.js';
import { Claim } from './postgres-claim.js';
import { type Database, databaseError, reasonOf } from './postgres-database.js';
import { channelOf } from './postgres-schema.js';
import type { News, Report, Watch } from './shared-store.js';

interface Self {
  daemonId: string;
  staleAfterMs: number;
}

/** Beyond its own deadline, so that a daemon that is not counted has refused every use of a key for some time. */
const ALIVE_BEYOND_MS = 2_000;
/** How long a beat may take before the connection is given up. */
const LEAST_BEAT_MS = 2_000;
const LAST_WORD_MS = 500;

const BEAT =
  'with beat as (insert into daemons values ($1, clock_timestamp(), make_interval(secs => $2), $3, $4) on conflict (daemon_id) ' +
  'do update set beaten_at = clock_timestamp(), alive_for = excluded.alive_for, generation = excluded.generation, ' +
  'slot_id = excluded.slot_id returning 1) select (select generation from keyring) as generation, (select count(*) from beat)';

/**
 * What other daemons change, as it is told (NOTIFY), and a sign of life of our own in return. Both go over one connection: the
 * server sends what it was told by others before it answers that a statement is done, so that after a beat everything is known
 * that was committed before it was asked for. Of another connection that could not be said. What was told while there was none
 * is lost: with a new one everything has to be taken for changed, before the first beat.
 */
export class PostgresWatch implements Watch {
  readonly begun: Promise<void>;
  readonly #database: Database;
  readonly #self: Self;
  readonly #report: () => Report;
  readonly #news: News;
  readonly #stopping = new AbortController();
  readonly #claim: Claim;
  readonly #running: Promise<void>;
  #heardAt: number;
  #reason: string | undefined;

  constructor(database: Database, self: Self, report: () => Report, news: News) {
    this.#database = database;
    this.#self = self;
    this.#report = report;
    this.#news = news;
    this.#claim = new Claim(database, self.daemonId, this.#stopping.signal);
    this.#heardAt = binding.sinceBoot();
    let begin = () => {};
    let fail: (error: unknown) => void = () => {};
    this.begun = new Promise((resolve, reject) => {
      begin = resolve;
      fail = reject;
    });
    this.begun.catch(() => undefined);
    this.#running = this.#run(begin, fail);
  }

  /** Null while it is heard often enough. */
  get fault(): string | null {
    const { staleAfterMs } = this.#self;
    if (this.#stopping.signal.aborted || binding.sinceBoot() - this.#heardAt < staleAfterMs) return null;
    return this.#reason ?? `PostgreSQL: not heard for ${staleAfterMs} ms`;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #run(begin: () => void, fail: (error: unknown) => void): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await this.#listen(begin).catch((error) => {
        this.#reason = reasonOf(error);
        fail(databaseError(error));
      });
      await sleep(DATABASE_RETRY_MS, undefined, { signal, ref: false }).catch(() => undefined);
    }
    fail(new KmsError('STORE_UNAVAILABLE', 'the store is closed'));
  }

  async #listen(begin: () => void): Promise<void> {
    const { staleAfterMs } = this.#self;
    const { signal } = this.#stopping;
    const client = await this.#database.connect(Math.max(staleAfterMs, LEAST_BEAT_MS));
    const end = () => void client.end().catch(() => undefined);
    // A beat under way ends, and the last word is said, unless the server does not answer.
    const stop = () => void setTimeout(end, LAST_WORD_MS).unref();
    signal.addEventListener('abort', stop);
    try {
      client.on('notification', ({ payload = '' }) => {
        if (payload === '') this.#news.keyring();
        // Anybody who may connect can say anything.
        else if (KEY_ID_PATTERN.test(payload)) this.#news.key(payload);
      });
      await this.#claim.take(client);
      // Lost in a crash of the server, a sign of life is only missed.
      await client.query('set synchronous_commit = off');
      await client.query(`listen ${channelOf(this.#database.schema)}`);
      this.#news.everything();
      await client.query('delete from daemons where beaten_at < now() - make_interval(days => $1)', [FORGOTTEN_DAEMON_DAYS]);
      while (!signal.aborted) {
        await this.#beat(client);
        begin();
        await sleep(staleAfterMs / BEATS_PER_STALE_AFTER, undefined, { signal, ref: false }).catch(() => undefined);
      }
      await this.#claim.release(client).catch(() => undefined);
    } finally {
      signal.removeEventListener('abort', stop);
      end();
    }
  }

  async #beat(client: Client): Promise<void> {
    const { daemonId, staleAfterMs } = this.#self;
    const { generation, slotId } = this.#report();
    const aliveFor = (staleAfterMs + ALIVE_BEYOND_MS) / 1_000;
    const askedAt = binding.sinceBoot();
    const { rows } = await client.query({ name: 'beat', text: BEAT, values: [daemonId, aliveFor, generation, slotId] });
    const found = rows[0]?.generation;
    if (found === null || found === undefined) throw new KmsError('STORE_UNAVAILABLE', 'the keyring is gone');
    await this.#news.upToDate(askedAt, Number(found));
    this.#heardAt = askedAt;
  }
}
