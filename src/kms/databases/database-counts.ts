import { KmsError } from '../../errors.js';

/** `refused` by the secret, whatever is wrong with it; `failed` for a reason of the service's. */
type OpeningOutcome = 'ok' | 'refused' | 'failed';

/** What of databases there may be only so many of. */
type DatabaseLimit = 'databases_per_identity' | 'keys_per_database' | 'open';

/**
 * What was asked of databases, and what came of it, for whoever watches the service: of all of them together. A wrong secret and
 * one of a database that is not there are one figure, so that this answers nothing that an opening does not.
 */
export class DatabaseCounts {
  readonly #openings: Record<OpeningOutcome, number> = { ok: 0, refused: 0, failed: 0 };
  readonly #refusals: Record<DatabaseLimit, number> = { databases_per_identity: 0, keys_per_database: 0, open: 0 };

  async opening<T>(open: () => Promise<T>): Promise<T> {
    try {
      const opened = await open();
      this.#openings.ok += 1;
      return opened;
    } catch (error) {
      this.#openings[isOfSecret(error) ? 'refused' : 'failed'] += 1;
      throw error;
    }
  }

  /** Somebody was refused by the limit. */
  refused(limit: DatabaseLimit): void {
    this.#refusals[limit] += 1;
  }

  openings(outcome: OpeningOutcome): number {
    return this.#openings[outcome];
  }

  refusals(limit: DatabaseLimit): number {
    return this.#refusals[limit];
  }
}

function isOfSecret(error: unknown): boolean {
  return error instanceof KmsError && (error.code === 'UNAUTHENTICATED' || error.code === 'INVALID_ARGUMENT');
}
