import { createHash, KeyObject, type webcrypto } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { KmsError } from '../../errors.js';
import { MAX_JWT_BYTES, MAX_JWTS_IN_FLIGHT, MAX_JWTS_PER_CONNECTION, MAX_REMEMBERED_JWTS } from '../../limits.js';
import type { OidcConfig } from '../config/oidc.js';
import { actorOf, type Identity } from '../identity.js';
import { Burst, type Log } from '../log.js';
import { type Clock, systemClock } from '../tokens.js';
import { faultOfClaims, faultOfJwt, identityOfClaims, type Members } from './claims.js';
import { KeyFile } from './key-file.js';
import { fingerprintOf } from './key-set.js';
import { Freshness, type KeySource } from './key-source.js';
import { KeyUrl } from './key-url.js';

/** What an identity stands on. */
interface Proof {
  /** Milliseconds since 1970. */
  endsAt: number;
  /** The fingerprint of the key that verified the token. */
  key: string;
}

/** Whether a text can only be a JWT: no access token of ours has a dot. */
export function isJwt(text: string): boolean {
  return text.includes('.');
}

/** Knows callers by the JWTs that one OIDC issuer signed for them. */
export class Issuer {
  // Truly private, so that what prints an object does not print hashes of tokens.
  readonly #config: OidcConfig;
  readonly #clock: Clock;
  readonly #refused: Burst;
  readonly #jose = import('jose');
  readonly #keys: KeySource;
  /** By the SHA-256 of the token: how long a look-up takes says nothing of a token that is not known. */
  readonly #remembered = new Map<string, Identity>();
  readonly #pending = new Map<string, Promise<Identity>>();
  /** How many are being verified for whom. */
  readonly #asked = new WeakMap<object, number>();
  readonly #proofs = new WeakMap<Identity, Proof>();

  /** Throws as `KeyFile` if its keys are in a file. A URL is asked when the first token comes. */
  constructor(config: OidcConfig, log: Log, clock: Clock = systemClock) {
    this.#config = config;
    this.#clock = clock;
    this.#refused = new Burst(log, 'warn', 'jwt_refused');
    const { keys, algorithms } = config;
    const isFile = 'file' in keys;
    const freshness = new Freshness(clock, log, isFile ? keys.file : keys.url);
    this.#keys = isFile
      ? new KeyFile(keys.file, algorithms, this.#jose, freshness, clock)
      : new KeyUrl(keys.url, algorithms, this.#jose, freshness, clock);
  }

  /**
   * The one for a new reading of the configuration: the same if that says the same, having forgotten its tokens and looked for
   * other keys. Throws as `KeyFile`, and changes nothing, if keys are in a file that cannot be had.
   */
  renewed(config: OidcConfig, log: Log): Issuer {
    if (!isDeepStrictEqual(config, this.#config)) return new Issuer(config, log, this.#clock);
    this.#keys.lookAgain();
    this.#remembered.clear();
    return this;
  }

  /**
   * Who presents the token; a promise unless it is remembered. Throws or rejects with UNAUTHENTICATED in one way whatever is wrong
   * with it, PERMISSION_DENIED for one that is genuine and gives no role here, and BUSY. `asker` is the connection that it came on.
   */
  identify(text: string, asker?: object): Identity | Promise<Identity> {
    if (text.length > MAX_JWT_BYTES) throw this.#refusal('too long');
    const hash = createHash('sha256').update(text).digest('base64');
    const known = this.#remembered.get(hash);
    if (known !== undefined && this.isCurrent(known)) return known;
    // What is cheap comes first: only who knows what a token must say costs us a signature.
    const fault = faultOfJwt(text, this.#config, this.#clock.wall());
    if (fault !== undefined) throw this.#refusal(fault);
    // Whoever begins with a new token often does so on many connections at once.
    const pending = this.#pending.get(hash);
    if (pending !== undefined) return pending;
    const asked = asker === undefined ? 0 : this.#askedBy(asker, 0);
    if (asked >= MAX_JWTS_PER_CONNECTION || this.#pending.size >= MAX_JWTS_IN_FLIGHT) throw new KmsError('BUSY');
    if (asker !== undefined) this.#askedBy(asker, 1);
    const verifying = this.#verify(text, hash).finally(() => {
      this.#pending.delete(hash);
      if (asker !== undefined) this.#askedBy(asker, -1);
    });
    this.#pending.set(hash, verifying);
    return verifying;
  }

  /** How many are being verified for it, after so many more. */
  #askedBy(asker: object, more: number): number {
    const asked = (this.#asked.get(asker) ?? 0) + more;
    this.#asked.set(asker, asked);
    return asked;
  }

  /** Whether an identity that this gave still holds: its token has not expired, and its key is still the issuer's. */
  isCurrent(identity: Identity): boolean {
    const proof = this.#proofs.get(identity);
    return proof !== undefined && this.#clock.wall() < proof.endsAt && this.#keys.holds(proof.key);
  }

  /** Called every SWEEP_INTERVAL_MS. */
  sweep(): void {
    this.#refused.turn();
    this.#keys.sweep();
  }

  async #verify(text: string, hash: string): Promise<Identity> {
    const { claims, key } = await this.#prove(text);
    const fault = faultOfClaims(claims, this.#config, this.#clock.wall());
    if (fault !== undefined) throw this.#refusal(fault);
    const identity = identityOfClaims(claims, this.#config);
    if (typeof identity === 'string') {
      this.#refused.note(() => ({ reason: identity, actor: actorOf('oidc', claims['sub'] as string) }));
      // It is who it says it is: asking the issuer for another token, as UNAUTHENTICATED would have it do, is of no use.
      throw new KmsError('PERMISSION_DENIED', 'the token gives no role here');
    }
    const endsAt = ((claims['exp'] as number) + this.#config.clockSkewSeconds) * 1000;
    this.#proofs.set(identity, { endsAt, key });
    const [oldest] = this.#remembered.size >= MAX_REMEMBERED_JWTS ? this.#remembered.keys() : [];
    if (oldest !== undefined) this.#remembered.delete(oldest);
    this.#remembered.set(hash, identity);
    return identity;
  }

  /** The claims that the issuer has signed, and the fingerprint of the key. */
  async #prove(text: string): Promise<{ claims: Members; key: string }> {
    const { issuer, audience, algorithms, clockSkewSeconds } = this.#config;
    try {
      const { jwtVerify } = await this.#jose;
      const { payload, key } = await jwtVerify(text, this.#keys.keyFor, {
        issuer,
        audience: [...audience],
        algorithms: [...algorithms],
        clockTolerance: clockSkewSeconds,
        currentDate: new Date(this.#clock.wall()),
        requiredClaims: ['sub', 'exp'],
      });
      return { claims: payload, key: fingerprintOf(KeyObject.from(key as webcrypto.CryptoKey)) };
    } catch (error) {
      if (error instanceof KmsError && error.code === 'BUSY') throw error;
      throw this.#refusal(reasonOf(error));
    }
  }

  /** The caller is told nothing of why. */
  #refusal(reason: string): KmsError {
    this.#refused.note(() => ({ reason }));
    return new KmsError('UNAUTHENTICATED', 'the token is not valid');
  }
}

/** The code of a JOSE error: its message may repeat the token's words. Other errors are those of the keys. */
function reasonOf(error: unknown): string {
  const { code } = error as { code?: unknown };
  return typeof code === 'string' && code.startsWith('ERR_JW') ? code : 'no key';
}
