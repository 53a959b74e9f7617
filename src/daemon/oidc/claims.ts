import { MAX_JWT_LIFE_MS, MAX_THREAD_PREFIXES, SUBJECT_PATTERN, THREAD_ID_PATTERN } from '../../limits.js';
import { ROLES, type Role } from '../../wire/frames.js';
import type { OidcConfig } from '../config/oidc.js';
import { actorOf, type Identity } from '../identity.js';

/** The members of a JSON object that somebody else wrote. */
export type Members = Readonly<Record<string, unknown>>;

const COMPACT = /^([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+$/;

function isObject(value: unknown): value is Members {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function decoded(part: string): Members | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(part, 'base64url').toString('utf8'));
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function member(of: Members, name: string): unknown {
  return Object.hasOwn(of, name) ? of[name] : undefined;
}

/**
 * Why a JWT is refused before its signature is looked at, in words for the log that repeat nothing of it; undefined if that is
 * worth it. `now` in milliseconds.
 */
export function faultOfJwt(text: string, config: OidcConfig, now: number): string | undefined {
  const [, first, second] = COMPACT.exec(text) ?? [];
  const header = decoded(first ?? '');
  const claims = decoded(second ?? '');
  if (header === undefined || claims === undefined) return 'not a JWT';
  return faultOfHeader(header, config) ?? faultOfClaims(claims, config, now);
}

function faultOfHeader(header: Members, { algorithms }: OidcConfig): string | undefined {
  const alg = member(header, 'alg');
  if (typeof alg !== 'string' || !algorithms.includes(alg)) return 'alg';
  // No extension is known to us, and one that is critical must not be passed over (RFC 7515, section 4.1.11).
  if (Object.hasOwn(header, 'crit')) return 'crit';
  // Other kinds of token of the same issuer, as that of a logout, say nothing about who asks (RFC 8725, section 3.11).
  const typ = member(header, 'typ');
  if (typ !== undefined && !(typeof typ === 'string' && /^(application\/)?(at\+)?jwt$/i.test(typ))) return 'typ';
  return undefined;
}

/** Why claims are refused, in one word of them; undefined if they are not. `now` in milliseconds. */
export function faultOfClaims(
  claims: Members,
  { issuer, audience, clockSkewSeconds }: OidcConfig,
  now: number,
): string | undefined {
  if (member(claims, 'iss') !== issuer) return 'iss';
  const audiences = [member(claims, 'aud')].flat();
  if (!audiences.some((one) => audience.includes(one as string))) return 'aud';
  const subject = member(claims, 'sub');
  if (typeof subject !== 'string' || !SUBJECT_PATTERN.test(subject)) return 'sub';
  const seconds = now / 1000;
  const expires = member(claims, 'exp');
  if (typeof expires !== 'number') return 'exp';
  if (expires + clockSkewSeconds <= seconds) return 'expired';
  if (expires - clockSkewSeconds > seconds + MAX_JWT_LIFE_MS / 1000) return 'exp too far ahead';
  for (const name of ['nbf', 'iat']) {
    const from = member(claims, name);
    if (from !== undefined && typeof from !== 'number') return name;
    if (from !== undefined && from - clockSkewSeconds > seconds) return `${name} ahead`;
  }
  return undefined;
}

/** The claim of this name, else what a path of names with dots between them leads to. */
function claimAt(claims: Members, name: string): unknown {
  if (Object.hasOwn(claims, name)) return claims[name];
  let at: unknown = claims;
  for (const part of name.split('.')) at = isObject(at) ? member(at, part) : undefined;
  return at;
}

function rolesOf(claims: Members, { subjects, rolesClaim }: OidcConfig): ReadonlySet<Role> {
  const claimed = rolesClaim === undefined ? undefined : claimAt(claims, rolesClaim);
  // One text may hold several with spaces between them, as `scope` does.
  const names: readonly unknown[] = typeof claimed === 'string' ? claimed.split(' ') : Array.isArray(claimed) ? claimed : [];
  return new Set(ROLES.filter((role) => names.includes(role) || subjects[role].includes(claims['sub'] as string)));
}

/** Who stands behind claims that `faultOfClaims` let pass; or why nobody does, in words for the log. */
export function identityOfClaims(claims: Members, config: OidcConfig): Identity | string {
  const roles = rolesOf(claims, config);
  if (roles.size === 0) return 'no role';
  const identity = { actor: actorOf('oidc', claims['sub'] as string), roles };
  if (config.prefixesClaim === undefined) return identity;
  const given = claimAt(claims, config.prefixesClaim);
  if (!isPrefixes(given)) return 'no thread prefixes';
  return [...roles].join() === 'client'
    ? { ...identity, threadPrefixes: given }
    : 'thread prefixes go with the role client alone';
}

function isPrefixes(value: unknown): value is string[] {
  if (!Array.isArray(value) || value.length === 0 || value.length > MAX_THREAD_PREFIXES) return false;
  return value.every((prefix) => typeof prefix === 'string' && THREAD_ID_PATTERN.test(prefix));
}
