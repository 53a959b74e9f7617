import type { createRemoteJWKSet, FetchImplementation, JWTVerifyGetKey } from 'jose';
import { KmsError } from '../../errors.js';
import {
  JWKS_COOLDOWN_MS,
  JWKS_FETCH_TIMEOUT_MS,
  JWKS_REFRESH_MS,
  JWKS_RETRY_MS,
  MAX_JWKS_BYTES,
  MAX_JWTS_AWAITING_KEYS,
} from '../../limits.js';
import { errnoOf } from '../../store/file-system.js';
import type { Clock } from '../tokens.js';
import { boundedGet } from './bounded-get.js';
import { type KeySet, parseKeySet } from './key-set.js';
import type { Freshness, KeySource } from './key-source.js';

type Jose = typeof import('jose');
type Remote = ReturnType<typeof createRemoteJWKSet>;

/**
 * Keys behind a URL. They are fetched when the first token comes, again in the background when they are old, and when a token
 * names a key that is not among them: only who presents such a one waits for that.
 */
export class KeyUrl implements KeySource {
  private readonly url: URL;
  private set: KeySet | undefined;
  private remote: Remote | undefined;
  private nextAt = Number.NEGATIVE_INFINITY;
  private waiting = 0;

  constructor(
    url: string,
    private readonly algorithms: readonly string[],
    private readonly jose: Promise<Jose>,
    private readonly freshness: Freshness,
    private readonly clock: Clock,
  ) {
    this.url = new URL(url);
  }

  readonly keyFor: JWTVerifyGetKey = async (header, token) => {
    const jose = await this.jose;
    this.remote ??= this.open(jose);
    if (this.freshness.isFresh && this.set?.kids.has(header?.kid)) return this.remote(header, token);
    // Behind a key that is not known may be nobody: who waits for it must not take the place of those whose key is there.
    if (this.waiting >= MAX_JWTS_AWAITING_KEYS) throw new KmsError('BUSY');
    this.waiting++;
    try {
      if (!this.freshness.isFresh) await this.remote.reload();
      return await this.remote(header, token);
    } finally {
      this.waiting--;
    }
  };

  holds(fingerprint: string): boolean {
    return this.freshness.isFresh && this.set?.fingerprints.has(fingerprint) === true;
  }

  sweep(): void {
    if (this.freshness.age > JWKS_REFRESH_MS) this.refresh();
  }

  lookAgain(): void {
    this.nextAt = Number.NEGATIVE_INFINITY;
    this.refresh();
  }

  /** jose keeps the keys, and asks for others when one is not known. How often it may, and how long they last, is decided here. */
  private open({ createRemoteJWKSet, customFetch }: Jose): Remote {
    return createRemoteJWKSet(this.url, {
      timeoutDuration: JWKS_FETCH_TIMEOUT_MS,
      cooldownDuration: 0,
      cacheMaxAge: Number.POSITIVE_INFINITY,
      [customFetch]: this.fetch,
    });
  }

  private readonly fetch: FetchImplementation = async (_, { signal }) => {
    if (this.clock.steady() < this.nextAt) throw new Error('the keys were asked for a moment ago');
    this.nextAt = this.clock.steady() + JWKS_COOLDOWN_MS;
    try {
      const bytes = await boundedGet(this.url, MAX_JWKS_BYTES, signal);
      this.set = parseKeySet('oidc.jwks_url', bytes, this.algorithms);
      this.freshness.renew();
      return new Response(bytes);
    } catch (error) {
      this.nextAt = this.clock.steady() + JWKS_RETRY_MS;
      this.freshness.fail(signal.aborted ? 'time-out' : reasonOf(error));
      throw error;
    }
  };

  /** Nobody waits for it; what comes of it is logged where it is fetched. */
  private refresh(): void {
    if (this.remote?.reloading === false) void this.remote.reload().catch(() => {});
  }
}

function reasonOf(error: unknown): string {
  return (error instanceof KmsError ? '' : errnoOf(error)) || (error as Error).message;
}
