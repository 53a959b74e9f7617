import { isIP, isIPv4 } from 'node:net';

export interface HostPort {
  /** An IP address. */
  host: string;
  port: number;
  /** TLS and nothing else is spoken there. */
  isTls?: true;
}

/** Why a text is no endpoint. */
export interface NoEndpoint {
  rule: string;
}

const FORM = 'must be host:port, [v6]:port, http://host:port or https://host:port';
const LAST_PORT = 65_535;

function wrong(rule: string): NoEndpoint {
  return { rule };
}

/** `::1` in any of its spellings. A mapped IPv4 address is not among them: what it reaches depends on the system. */
function isLoopback(host: string): boolean {
  if (isIPv4(host)) return host.startsWith('127.');
  return new URL(`http://[${host}]`).hostname === '[::1]';
}

interface Authority {
  text: string;
  isTls: boolean;
}

/** The text without its scheme and path, which clients' addresses have. */
function authorityOf(text: string): Authority | NoEndpoint {
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(text);
  if (scheme === null) return { text, isTls: false };
  const name = scheme[1]?.toLowerCase();
  if (name !== 'http' && name !== 'https') return wrong(FORM);
  const [authority = ''] = text.slice(scheme[0].length).split(/[/?#]/);
  return authority.includes('@') ? wrong('must not hold a user or a password') : { text: authority, isTls: name === 'https' };
}

/** Where to listen. A host by name is not looked up: what answers may be another machine tomorrow. */
export function parseEndpoint(text: string): HostPort | NoEndpoint {
  const authority = authorityOf(text);
  if ('rule' in authority) return authority;
  const parts = /^(?:\[([^\]]*)\]|([^:[\]/]*)):(\d{1,5})$/.exec(authority.text);
  if (parts === null) return wrong(FORM);
  const [, v6, name = '', digits] = parts;
  const host = v6 ?? (name.toLowerCase() === 'localhost' ? '127.0.0.1' : name);
  if (isIP(host) !== (v6 === undefined ? 4 : 6)) return wrong('must have an IP address or localhost for a host');
  const port = Number(digits);
  if (port < 1 || port > LAST_PORT) return wrong(`must have a port from 1 to ${LAST_PORT}`);
  if (host.includes('%')) return wrong('must have an address without a zone');
  if (!authority.isTls && !isLoopback(host)) return wrong(`beyond loopback TLS is needed: give https://${authority.text}`);
  return { host, port, ...(authority.isTls && { isTls: true }) };
}

/** As it is shown, and as it could be given. */
export function written({ host, port, isTls }: HostPort): string {
  return `${isTls ? 'https://' : ''}${host.includes(':') ? `[${host}]` : host}:${port}`;
}
