import type { X509Certificate } from 'node:crypto';
import { KmsError } from '../errors.js';
import type { Peer } from '../listening.js';
import type { OidcConfig } from './config/oidc.js';
import { type Access, ANONYMOUS, type Identity, identify, isLoopback, narrowedBy } from './identity.js';
import type { Log } from './log.js';
import { Issuer, isJwt } from './oidc/issuer.js';
import { identityOf, isExpired } from './tls/certificates.js';
import type { Tokens } from './tokens.js';

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

/** Who is who: by the kernel's word on the peer, by a token of ours or a JWT, or, where it is configured, by being on this machine. */
export class Authentication {
  private readonly ownUid = process.geteuid?.() ?? -1;

  constructor(
    private access: Access,
    /** Undefined where no data directory could hold any. */
    private readonly tokens: Tokens | undefined,
    /** Undefined where no JWTs are taken. */
    private issuer?: Issuer,
  ) {}

  /** The issuer for a new reading of the configuration. Throws as `KeyFile` if its keys cannot be had. */
  issuerFor(config: OidcConfig | undefined, log: Log): Issuer | undefined {
    if (config === undefined) return undefined;
    return this.issuer?.renewed(config, log) ?? new Issuer(config, log);
  }

  /** From now on; identities given before are looked at again by who holds them. */
  replace(access: Access, issuer: Issuer | undefined): void {
    this.access = access;
    this.issuer = issuer;
  }

  /**
   * The identity of a peer that has not said anything yet; undefined for one that is refused. Over TCP somebody unknown is
   * `ANONYMOUS` as long as there is a token or an issuer of some to come with or, over TLS, a certificate.
   */
  ofPeer({ uid, address }: Peer, isTls = false): Identity | undefined {
    const known = identify(uid, this.ownUid, this.access);
    if (known !== undefined || address === '') return known && narrowedBy(this.access.narrowed, known);
    const { unauthenticatedLoopbackRoles: roles } = this.access;
    if (roles.length > 0 && isLoopback(address)) {
      return narrowedBy(this.access.narrowed, { actor: 'loopback', roles: new Set(roles) });
    }
    return this.knowsTokens || (isTls && this.knowsCertificates) ? ANONYMOUS : undefined;
  }

  /** The identity of a certificate that was verified; undefined if it names nobody we know, or not any more. */
  ofCertificate(certificate: X509Certificate): Identity | undefined {
    const identity = identityOf(certificate, this.access);
    return identity !== undefined && !isExpired(identity) ? narrowedBy(this.access.narrowed, identity) : undefined;
  }

  /** Whether anybody beyond this machine could say who he is. */
  get knowsStrangers(): boolean {
    return this.knowsCertificates || this.knowsTokens;
  }

  private get knowsTokens(): boolean {
    return this.issuer !== undefined || (this.tokens?.count() ?? 0) > 0;
  }

  private get knowsCertificates(): boolean {
    return Object.values(this.access.certificates ?? {}).some((names) => names.length > 0);
  }

  /**
   * Throws UNAUTHENTICATED, in one way whatever is wrong with the token. A promise only for a JWT that is not remembered, which
   * rejects so too; or with PERMISSION_DENIED for one that gives no role, or BUSY. `asker` is the connection that it came on.
   */
  ofToken(text: string, asker?: object): Identity | Promise<Identity> {
    if (this.issuer !== undefined && isJwt(text)) return this.issuer.identify(text, asker);
    const identity = this.tokens?.identify(text);
    if (identity === undefined) throw new KmsError('UNAUTHENTICATED', 'the token is not valid');
    return identity;
  }

  /** Of an `Authorization` header, as `ofToken`. */
  ofHeader(header: string, asker?: object): Identity | Promise<Identity> {
    return this.ofToken(tokenOf(header) ?? '', asker);
  }

  /**
   * Whether an identity that came with a token is still in force, false too for a certificate that has expired; undefined for
   * every other one, which is looked at by its peer.
   */
  isCurrent(identity: Identity): boolean | undefined {
    if (identity.actor.startsWith('token:')) return this.tokens?.isCurrent(identity) === true;
    if (identity.actor.startsWith('oidc:')) return this.issuer?.isCurrent(identity) === true;
    return isExpired(identity) ? false : undefined;
  }

  /** Called every SWEEP_INTERVAL_MS. */
  sweep(): void {
    this.issuer?.sweep();
  }
}
