import type { JWTVerifyGetKey } from 'jose';
import { JWKS_STALE_MS } from '../../limits.js';
import type { Log } from '../log.js';
import type { Clock } from '../tokens.js';

/** Where an issuer's public keys come from. */
export interface KeySource {
  /** The key that a token's header names. Rejects if there is none; may wait for the keys to be fetched. */
  readonly keyFor: JWTVerifyGetKey;
  /** Whether the issuer still has the key of this fingerprint, so that what it verified holds on. */
  holds(fingerprint: string): boolean;
  /** Called every SWEEP_INTERVAL_MS: sees to it that keys that are withdrawn are missed, also while no token comes. */
  sweep(): void;
  /** Looks for other keys at once, for somebody says that there are some. Throws if it finds that they cannot be had. */
  lookAgain(): void;
}

/**
 * How long keys are used that cannot be read again: an issuer that is down for a moment should lock nobody out, and one that
 * withdraws a key must not be overheard for ever.
 */
export class Freshness {
  private since = Number.NEGATIVE_INFINITY;
  private fault: string | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly log: Log,
    private readonly source: string,
  ) {}

  /** How long ago they were last seen, in milliseconds. */
  get age(): number {
    return this.clock.steady() - this.since;
  }

  get isFresh(): boolean {
    return this.age < JWKS_STALE_MS;
  }

  /** They were just seen. */
  renew(): void {
    this.since = this.clock.steady();
    if (this.fault !== undefined) this.log('info', 'oidc_keys_read', { source: this.source });
    this.fault = undefined;
  }

  /** They could not be seen. Said once for each reason: whoever presents a token makes us try. */
  fail(reason: string): void {
    if (reason !== this.fault) this.log('warn', 'oidc_keys_unavailable', { source: this.source, reason });
    this.fault = reason;
  }
}
