import { createHash, createPublicKey, type JsonWebKey, type KeyObject } from 'node:crypto';
import type { JSONWebKeySet } from 'jose';
import { KmsError } from '../../errors.js';
import { MAX_JWKS_BYTES, MAX_JWKS_KEYS } from '../../limits.js';

/** An issuer's public keys. */
export interface KeySet {
  document: JSONWebKeySet;
  /** Of the keys that an allowed algorithm can use. */
  fingerprints: ReadonlySet<string>;
  /** The names of all keys. */
  kids: ReadonlySet<unknown>;
}

/** Members of private and symmetric keys (RFC 7518, section 6; RFC 9964). */
const SECRET_MEMBERS = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k', 'priv'];
const MIN_RSA_BITS = 2048;
const CURVES: Record<string, string> = { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521', EdDSA: 'Ed25519' };

type Jwk = JsonWebKey & Record<string, unknown>;

/** By which a key is known again, in whatever form it comes. */
export function fingerprintOf(key: KeyObject): string {
  return createHash('sha256')
    .update(key.export({ type: 'spki', format: 'der' }))
    .digest('base64');
}

/** Whether one of `algorithms` verifies with this key. */
function isFor(algorithms: readonly string[], { kty, crv, alg, use }: Jwk): boolean {
  if (use !== undefined && use !== 'sig') return false;
  return algorithms.some((algorithm) => {
    if (alg !== undefined && alg !== algorithm) return false;
    const curve = CURVES[algorithm];
    if (curve === undefined) return kty === 'RSA';
    return crv === curve && kty === (curve === 'Ed25519' ? 'OKP' : 'EC');
  });
}

/** Undefined for one that is no key, or too weak. */
function publicKeyOf(jwk: Jwk): KeyObject | undefined {
  try {
    const key = createPublicKey({ key: jwk, format: 'jwk' });
    const bits = key.asymmetricKeyDetails?.modulusLength;
    return bits === undefined || bits >= MIN_RSA_BITS ? key : undefined;
  } catch {
    return undefined;
  }
}

/**
 * The keys of a JWK set (RFC 7517) from `where`. Those that no allowed algorithm can use are passed over. Throws INVALID_ARGUMENT
 * in one line that repeats nothing of the text: for what is no such set, holds no key of use, or holds a secret one, which
 * somebody has published then.
 */
export function parseKeySet(where: string, bytes: Uint8Array, algorithms: readonly string[]): KeySet {
  const refuse = (reason: string) => new KmsError('INVALID_ARGUMENT', `${where}: ${reason}`);
  if (bytes.length > MAX_JWKS_BYTES) throw refuse(`more than ${MAX_JWKS_BYTES} bytes`);
  const document = decoded(bytes);
  if (document === undefined) throw refuse('not JSON');
  const keys = keysOf(document);
  if (keys === undefined) throw refuse('not a JWK set');
  if (keys.length > MAX_JWKS_KEYS) throw refuse(`more than ${MAX_JWKS_KEYS} keys`);
  if (keys.some((jwk) => jwk.kty === 'oct' || SECRET_MEMBERS.some((name) => Object.hasOwn(jwk, name)))) {
    throw refuse('holds a private or secret key; only public ones belong there');
  }
  const usable = keys.filter((jwk) => isFor(algorithms, jwk)).map(publicKeyOf);
  const fingerprints = new Set(usable.filter((key) => key !== undefined).map(fingerprintOf));
  if (fingerprints.size === 0) throw refuse(`holds no public key for ${algorithms.join(', ')}`);
  return { document: { keys } as JSONWebKeySet, fingerprints, kids: new Set(keys.map(({ kid }) => kid)) };
}

function decoded(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function keysOf(document: unknown): Jwk[] | undefined {
  const keys = isObject(document) && 'keys' in document ? document.keys : undefined;
  return Array.isArray(keys) && keys.every(isObject) ? (keys as Jwk[]) : undefined;
}
