import type { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { ROLES, type Role } from '../../wire/frames.js';
import { type Access, actorOf, type Identity } from '../identity.js';

/** Kinds of subject alternative names that identify a client. */
const KINDS: ReadonlySet<string> = new Set(['DNS', 'URI', 'email']);
/** An intermediate authority more than anybody has. */
const MAX_CHAIN = 8;

/** Who came with a certificate. */
export interface CertifiedIdentity extends Identity {
  /** Milliseconds since 1970; not valid any more afterwards. */
  readonly expires: number;
}

/** One of the alternative names in OpenSSL's text of them: its kind, and its value plain or, if it could be misread so, quoted. */
const ALTERNATIVE_NAME = /(?:^|, )([A-Za-z ]+):(?:"(?:[^"\\]|\\.)*"|([^,"\s]*))/y;

/** Those that stand there plainly. A quoted value holds what could pass for another name: nobody is named so. */
function alternativeNames(text: string): string[] {
  const names: string[] = [];
  ALTERNATIVE_NAME.lastIndex = 0;
  for (let end = 0; end < text.length; end = ALTERNATIVE_NAME.lastIndex) {
    const part = ALTERNATIVE_NAME.exec(text);
    if (part === null) return [];
    const [, kind = '', value] = part;
    if (KINDS.has(kind) && value !== undefined) names.push(`${kind}:${value}`);
  }
  return names;
}

/**
 * The names of a certificate, as the configuration writes them: `URI:spiffe://domain/app`. Its alternative names in their order,
 * then its common name if it has exactly one.
 */
export function namesOf(certificate: X509Certificate): string[] {
  const { subject } = certificate.toLegacyObject() as { subject?: { CN?: unknown } };
  const common = subject?.CN;
  const names = alternativeNames(certificate.subjectAltName ?? '');
  return typeof common === 'string' ? [...names, `CN:${common}`] : names;
}

/** Host names are the same in both cases; every other name is compared as it is. */
function comparable(name: string): string {
  return name.startsWith('DNS:') ? `DNS:${name.slice(4).toLowerCase()}` : name;
}

/** Who comes with a certificate of this name, as `Identity.actor` has it. */
export function actorOfName(name: string): string {
  return actorOf('cert', comparable(name));
}

/**
 * Undefined for a certificate of which no name is configured. Its first name that is says who it is; the roles are those of all.
 * One that is narrowed comes before the others: what else a certificate is called must not make it more.
 */
export function identityOf(certificate: X509Certificate, { certificates, narrowed }: Access): CertifiedIdentity | undefined {
  if (certificates === undefined) return undefined;
  const names = namesOf(certificate).map(comparable);
  const isNamed = (name: string, role: Role) => certificates[role].some((one) => comparable(one) === name);
  const roles = ROLES.filter((role) => names.some((name) => isNamed(name, role)));
  const actors = names.filter((name) => roles.some((role) => isNamed(name, role))).map(actorOfName);
  const actor = actors.find((one) => narrowed?.[one] !== undefined) ?? actors[0];
  if (actor === undefined) return undefined;
  return { actor, roles: new Set(roles), expires: Date.parse(certificate.validTo) };
}

/** Of whoever came with a certificate, that its time is over. */
export function isExpired(identity: Identity | CertifiedIdentity): boolean {
  return 'expires' in identity && identity.expires <= Date.now();
}

/** What a client sent of its chain, its own certificate first, in DER. */
export function chainOf(socket: TLSSocket): Uint8Array[] {
  const chain: Uint8Array[] = [];
  let one: { raw?: Uint8Array; issuerCertificate?: object } | undefined = socket.getPeerCertificate(true);
  while (one?.raw !== undefined && chain.length < MAX_CHAIN) {
    chain.push(one.raw);
    const issuer: object | undefined = one.issuerCertificate;
    if (issuer === one) break;
    one = issuer;
  }
  return chain;
}
