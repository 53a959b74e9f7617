import { isIP, isIPv4 } from 'node:net';

export interface HostPort {
  /** An IP address. */
  host: string;
  port: number;
}

/** Why a text is no endpoint; `unsupported` for one that a later version may take. */
export interface NoEndpoint {
  rule: string;
  unsupported: boolean;
}

const FORM = 'must be host:port, [v6]:port or http://host:port';
const LAST_PORT = 65_535;

function wrong(rule: string): NoEndpoint {
  return { rule, unsupported: false };
}

/** `::1` in any of its spellings. A mapped IPv4 address is not among them: what it reaches depends on the system. */
function isLoopback(host: string): boolean {
  if (isIPv4(host)) return host.startsWith('127.');
  return !host.includes('%') && new URL(`http://[${host}]`).hostname === '[::1]';
}

/** The text without its scheme and path, which clients' addresses have. */
function authorityOf(text: string): string | NoEndpoint {
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(text);
  if (scheme === null) return text;
  const name = scheme[1]?.toLowerCase();
  if (name === 'https') return { rule: 'TLS is not in this version; give http:// or host:port', unsupported: true };
  if (name !== 'http') return wrong(FORM);
  const [authority = ''] = text.slice(scheme[0].length).split(/[/?#]/);
  return authority.includes('@') ? wrong('must not hold a user or a password') : authority;
}

/** Where to listen. A host by name is not looked up: what answers may be another machine tomorrow. */
export function parseEndpoint(text: string): HostPort | NoEndpoint {
  const authority = authorityOf(text);
  if (typeof authority !== 'string') return authority;
  const parts = /^(?:\[([^\]]*)\]|([^:[\]/]*)):(\d{1,5})$/.exec(authority);
  if (parts === null) return wrong(FORM);
  const [, v6, name = '', digits] = parts;
  const host = v6 ?? (name.toLowerCase() === 'localhost' ? '127.0.0.1' : name);
  if (isIP(host) !== (v6 === undefined ? 4 : 6)) return wrong('must have an IP address or localhost for a host');
  const port = Number(digits);
  if (port < 1 || port > LAST_PORT) return wrong(`must have a port from 1 to ${LAST_PORT}`);
  if (!isLoopback(host)) return { rule: 'beyond loopback TLS is needed, which is not in this version', unsupported: true };
  return { host, port };
}
