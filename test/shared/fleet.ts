import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { createEmbeddedKms, type EmbeddedKms, type EmbeddedOptions } from '../../dist/create.js';
import { binding } from '../../dist/native.js';
import type { PostgresServer } from '../postgres-server.js';

/** Longer than a machine stalls, where a process is to be heard all the time. */
const PATIENT_MS = 6_000;
/** Where it is waited for that one is not heard any more. */
export const SOON_STALE_MS = 3_000;

/** Processes of one store, as far as one process can be several: each has a data directory, a vault and connections of its own. */
export class Fleet {
  readonly directory = mkdtempSync(join(tmpdir(), 'kms-fleet-'));
  readonly masterKeyFile = join(this.directory, 'master.key');
  readonly otherKeyFile = join(this.directory, 'other.key');
  readonly schema: string;
  readonly #server: PostgresServer;
  readonly #open: EmbeddedKms[] = [];

  constructor(server: PostgresServer, schema: string) {
    this.#server = server;
    this.schema = schema;
    for (const file of [this.masterKeyFile, this.otherKeyFile]) binding.writeKeyFile(file);
  }

  options(name: string, staleAfterMs = PATIENT_MS): EmbeddedOptions {
    return {
      dataDir: join(this.directory, name),
      masterKeyFile: this.masterKeyFile,
      store: { kind: 'postgres', url: this.#server.url('postgres'), schema: this.schema, connections: 4, staleAfterMs },
    };
  }

  async open(name: string, more: EmbeddedOptions = {}, staleAfterMs?: number): Promise<EmbeddedKms> {
    const kms = await createEmbeddedKms({ ...this.options(name, staleAfterMs), ...more });
    this.#open.push(kms);
    return kms;
  }

  /** Its keys are refused soon after it has heard nothing. */
  openImpatient(name: string): Promise<EmbeddedKms> {
    return this.open(name, {}, SOON_STALE_MS);
  }

  async asked<R extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<R[]> {
    const client = new pg.Client({ host: this.#server.directory, user: 'kms', database: 'postgres' });
    await client.connect();
    try {
      await client.query(`set search_path to ${this.schema}`);
      return (await client.query<R>(text, values)).rows;
    } finally {
      await client.end();
    }
  }

  async end(): Promise<void> {
    for (const kms of this.#open) await kms.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Asks until it is so; whoever waits in vain is told by the time-out of the test. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 20));
}
