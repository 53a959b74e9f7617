import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';
import { KmsError } from '../errors.js';
import { CLAIM_LOOK_MS, MOST_CLAIM_MS } from '../limits.js';
import { binding } from '../native.js';
import type { Database } from './postgres-database.js';
import { LOCK, nameOf } from './postgres-lease.js';

/** Signs of life that are seen to change before somebody counts as alive: the last one of who was killed may come late. */
const ALIVE_BEATS = 2;

const CLAIM =
  `select pg_try_advisory_lock${LOCK} as taken, pg_backend_pid() as pid, ` +
  '(select beaten_at::text from daemons where daemon_id = $3) as beat';
const RELEASE = `with gone as (delete from daemons where daemon_id = $3) select pg_advisory_unlock${LOCK}`;
/** Only while it holds this very lock: the server may have given its number to another session since. */
const END_OWN =
  "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted and objsubid = 2 and pid = $3 " +
  'and classid::bigint = hashtext($1)::bigint & 4294967295 and objid::bigint = hashtext($2)::bigint & 4294967295';

/**
 * The name of a daemon, held by the session that gives its signs of life: of two processes with one name, as of a data directory that
 * was copied, one serves. Crash story: the lock goes with the session, and that with the process, so that a daemon that was killed
 * starts again at once; where its machine is gone without a word the server waits for it until its keepalive has told.
 */
export class Claim {
  readonly #lock: [string, string];
  readonly #daemonId: string;
  readonly #signal: AbortSignal;
  #session: number | undefined;

  constructor(database: Database, daemonId: string, signal: AbortSignal) {
    this.#lock = nameOf(database, `daemon/${daemonId}`);
    this.#daemonId = daemonId;
    this.#signal = signal;
  }

  /** CONFLICT while another session has it, once that one is known to live or has had time enough to go. */
  async take(client: Client): Promise<void> {
    // A session of our own whose connection broke, unnoticed by the server.
    if (this.#session !== undefined) await client.query(END_OWN, [...this.#lock, this.#session]);
    const last = binding.sinceBoot() + MOST_CLAIM_MS;
    const beats = new Set<string>();
    for (;;) {
      const { rows } = await client.query(CLAIM, [...this.#lock, this.#daemonId]);
      const { taken, pid, beat } = rows[0];
      if (taken) {
        this.#session = pid;
        return;
      }
      beats.add(beat ?? '');
      if (beats.size > ALIVE_BEATS || binding.sinceBoot() > last) throw this.#refusal();
      await sleep(CLAIM_LOOK_MS, undefined, { signal: this.#signal });
    }
  }

  #refusal(): KmsError {
    return new KmsError(
      'CONFLICT',
      `another daemon runs by the name in the daemon-id file of this data directory (${this.#daemonId}): one of the two directories ` +
        'is a copy of the other; start this daemon with a new, empty data directory',
    );
  }

  /** With the sign of life, so that nobody waits for either. */
  async release(client: Client): Promise<void> {
    await client.query(RELEASE, [...this.#lock, this.#daemonId]);
  }
}
