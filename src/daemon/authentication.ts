import type { X509Certificate } from 'node:crypto';
import { KmsError } from '../errors.js';
import type { Peer } from '../native.js';
import { type Access, ANONYMOUS, type Identity, identify, isLoopback } from './identity.js';
import { identityOf } from './tls/certificates.js';
import type { TokenIdentity, Tokens } from './tokens.js';

/** What stands behind `Authorization: Basic`: the token is the password, whatever the user's name (RFC 7617). */
const BASIC = /^basic ([A-Za-z0-9+/]+={0,2})$/i;
const BEARER = /^bearer ([A-Za-z0-9._~+/-]+=*)$/i;

function tokenOf(header: string): string | undefined {
  const bearer = BEARER.exec(header)?.[1];
  if (bearer !== undefined) return bearer;
  const basic = BASIC.exec(header)?.[1];
  const text = basic === undefined ? '' : Buffer.from(basic, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  return colon < 0 ? undefined : text.slice(colon + 1);
}

/** Who is who: by the kernel's word on the peer, by a token, or, where it is configured, by being on this machine. */
export class Authentication {
  private readonly ownUid = process.geteuid?.() ?? -1;

  constructor(
    private access: Access,
    /** Undefined where no data directory could hold any. */
    private readonly tokens: Tokens | undefined,
  ) {}

  /** From now on; identities given before are looked at again by who holds them. */
  replace(access: Access): void {
    this.access = access;
  }

  /**
   * The identity of a peer that has not said anything yet; undefined for one that is refused. Over TCP somebody unknown is
   * `ANONYMOUS` as long as there is a token to come with or, over TLS, a certificate.
   */
  ofPeer({ uid, address }: Peer, isTls = false): Identity | undefined {
    const known = identify(uid, this.ownUid, this.access);
    if (known !== undefined || address === '') return known;
    const { unauthenticatedLoopbackRoles: roles } = this.access;
    if (roles.length > 0 && isLoopback(address)) return { actor: 'loopback', roles: new Set(roles) };
    return this.knowsTokens || (isTls && this.knowsCertificates) ? ANONYMOUS : undefined;
  }

  /** The identity of a certificate that was verified; undefined if it names nobody we know, or not any more. */
  ofCertificate(certificate: X509Certificate): Identity | undefined {
    const identity = identityOf(certificate, this.access);
    return identity !== undefined && identity.expires > Date.now() ? identity : undefined;
  }

  /** Whether anybody beyond this machine could say who he is. */
  get knowsStrangers(): boolean {
    return this.knowsCertificates || this.knowsTokens;
  }

  private get knowsTokens(): boolean {
    return this.tokens !== undefined && this.tokens.count() > 0;
  }

  private get knowsCertificates(): boolean {
    return Object.values(this.access.certificates ?? {}).some((names) => names.length > 0);
  }

  /** Throws UNAUTHENTICATED, in one way whatever is wrong with the token. */
  ofToken(text: string): Identity {
    const identity = this.tokens?.identify(text);
    if (identity === undefined) throw new KmsError('UNAUTHENTICATED', 'the token is not valid');
    return identity;
  }

  /** Of an `Authorization` header. Throws UNAUTHENTICATED. */
  ofHeader(header: string): Identity {
    return this.ofToken(tokenOf(header) ?? '');
  }

  /** Whether a token's identity is still in force; every other one is looked at by its peer. */
  isCurrent(identity: Identity): boolean {
    return !identity.actor.startsWith('token:') || this.tokens?.isCurrent(identity as TokenIdentity) === true;
  }
}
