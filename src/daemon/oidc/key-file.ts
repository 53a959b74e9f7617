import { type BigIntStats, statSync } from 'node:fs';
import type { JWTVerifyGetKey } from 'jose';
import { readChecked } from '../../checked-file.js';
import { MAX_JWKS_BYTES, TOKEN_LOOK_MS } from '../../limits.js';
import { isSettled, stampOf } from '../file-stamp.js';
import type { Clock } from '../tokens.js';
import { type KeySet, parseKeySet } from './key-set.js';
import type { Freshness, KeySource } from './key-source.js';

type Jose = typeof import('jose');

const NAME = 'oidc.jwks_file';

/** Throws one line that names the file. */
function readKeyFile(path: string, algorithms: readonly string[]): KeySet {
  // Who can write it says who is admin. It may be read by anybody: it is public.
  const bytes = readChecked(NAME, path, { isSecret: false, isOwned: true, maxBytes: MAX_JWKS_BYTES });
  return parseKeySet(`${NAME}: ${path}`, bytes, algorithms);
}

/** Undefined where there is none to be had: reading the file then says why. */
function statsOf(path: string): BigIntStats | undefined {
  try {
    return statSync(path, { bigint: true });
  } catch {
    return undefined;
  }
}

/** Keys in a file, which is read again when it has changed. */
export class KeyFile implements KeySource {
  private set: KeySet;
  /** Of the file that was read; undefined if it has to be read in any case. */
  private stamp: string | undefined;
  private lookedAt: number;
  private resolver: JWTVerifyGetKey | undefined;

  /** Throws as `readChecked`, and INVALID_ARGUMENT for a file that holds no key of use. */
  constructor(
    private readonly path: string,
    private readonly algorithms: readonly string[],
    private readonly jose: Promise<Jose>,
    private readonly freshness: Freshness,
    private readonly clock: Clock,
  ) {
    this.set = this.read();
    this.lookedAt = clock.steady();
  }

  readonly keyFor: JWTVerifyGetKey = async (header, token) => {
    this.look();
    if (!this.freshness.isFresh) throw new Error('the keys are stale');
    const { createLocalJWKSet } = await this.jose;
    this.resolver ??= createLocalJWKSet(this.set.document);
    return this.resolver(header, token);
  };

  holds(fingerprint: string): boolean {
    this.look();
    return this.freshness.isFresh && this.set.fingerprints.has(fingerprint);
  }

  sweep(): void {
    this.look();
  }

  lookAgain(): void {
    this.set = this.read();
  }

  /** Every TOKEN_LOOK_MS at most. What is wrong is logged, and the keys there were go on being used for a while. */
  private look(): void {
    const now = this.clock.steady();
    if (now - this.lookedAt < TOKEN_LOOK_MS) return;
    this.lookedAt = now;
    try {
      if (stampOf(statsOf(this.path)) === this.stamp) this.freshness.renew();
      else this.set = this.read();
    } catch (error) {
      this.stamp = undefined;
      this.freshness.fail((error as Error).message);
    }
  }

  private read(): KeySet {
    const stats = statsOf(this.path);
    // Stamped before it is read: of a file that is replaced in between, the next look finds another stamp.
    const set = readKeyFile(this.path, this.algorithms);
    this.stamp = isSettled(stats, this.clock.wall()) ? stampOf(stats) : undefined;
    this.resolver = undefined;
    this.freshness.renew();
    return set;
  }
}
