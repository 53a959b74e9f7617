import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { OidcConfig } from '../../dist/daemon/config/oidc.js';
import type { Clock } from '../../dist/daemon/tokens.js';

export const ISSUER = 'https://issuer.example/realm';
export const AUDIENCE = 'kms';

export type Claims = Record<string, unknown>;

/** A key pair of a test's issuer, for ES256. */
export interface Signer {
  kid: string;
  privateKey: KeyObject;
  publicKey: KeyObject;
  jwk: Record<string, unknown>;
}

export function signerOf(kid = 'one'): Signer {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { kid, privateKey, publicKey, jwk: { ...publicKey.export({ format: 'jwk' }), kid, use: 'sig', alg: 'ES256' } };
}

export function keySet(...signers: Signer[]): string {
  return JSON.stringify({ keys: signers.map(({ jwk }) => jwk) });
}

/** A file of keys below `directory`. */
export function keyFileIn(directory: string, ...signers: Signer[]): string {
  const path = join(directory, 'jwks.json');
  writeFileSync(path, keySet(...signers), { mode: 0o644 });
  return path;
}

export function seconds(now = Date.now()): number {
  return Math.floor(now / 1000);
}

/** Claims that are good for five minutes; what is undefined in `change` is left out. */
export function claimsOf(change: Claims = {}, now = Date.now()): Claims {
  const at = seconds(now);
  return { iss: ISSUER, aud: AUDIENCE, sub: 'alice', iat: at, exp: at + 300, ...change };
}

export function part(value: unknown): string {
  return Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
}

/** A JWT by hand, so that nothing keeps it from being wrong. */
export function jwtOf({ kid, privateKey }: Signer, claims: unknown = claimsOf(), header: Claims = {}): string {
  const text = `${part({ alg: 'ES256', kid, ...header })}.${part(claims)}`;
  return `${text}.${sign('sha256', Buffer.from(text), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
}

export function oidcConfig(keys: OidcConfig['keys'], change: Partial<OidcConfig> = {}): OidcConfig {
  return {
    issuer: ISSUER,
    audience: [AUDIENCE],
    keys,
    algorithms: ['ES256'],
    clockSkewSeconds: 60,
    subjects: { client: ['alice'], admin: ['root'], auditor: [] },
    rolesClaim: undefined,
    prefixesClaim: undefined,
    ...change,
  };
}

/** A clock that goes on when it is told. */
export class StoppedClock implements Clock {
  constructor(private now = Date.now()) {}

  wall(): number {
    return this.now;
  }

  steady(): number {
    return this.now;
  }

  advance(milliseconds: number): void {
    this.now += milliseconds;
  }
}
