import { isIPv4 } from 'node:net';
import { KmsError } from '../errors.js';

/** The longest path of a Unix socket that every supported system takes, less its final zero (104 on macOS and the BSDs, 108 on Linux). */
const MAX_SOCKET_PATH_BYTES = process.platform === 'linux' ? 107 : 103;

/** Where a key service listens. */
export type Place = { path: string } | HostPlace;

export interface HostPlace {
  /** An IPv6 address stands without brackets. */
  host: string;
  port: number;
  isTls: boolean;
}

export interface Address {
  protocol: 'binary' | 'http';
  place: Place;
  /** Before every route of HTTP, with a slash before it and none behind. */
  prefix: string;
  /** A secret. */
  userinfo: { user: string; token: string } | undefined;
}

/** Without a port of its own a scheme wants one in the address. */
const SCHEMES: Readonly<Record<string, { protocol: Address['protocol']; isTls: boolean; port: number | undefined }>> = {
  http: { protocol: 'http', isTls: false, port: 80 },
  https: { protocol: 'http', isTls: true, port: 443 },
  kms: { protocol: 'binary', isTls: false, port: undefined },
  'kms+tls': { protocol: 'binary', isTls: true, port: undefined },
};
const BARE_HOST = /^(\[[0-9a-f:.]+\]|[\w.-]+):\d+\/?$/i;
const HOST = /^(\[[0-9a-f:.]+\]|[\w.-]+)$/i;

/**
 * A path with a slash in it, `unix:/path`, `unix:///path`: the binary protocol on a Unix socket; `http+unix:///path`: HTTP on it.
 * `kms://host:port` and `kms+tls://host:port`: the binary protocol over TCP; `http://host[:port][/prefix]`, `https://…` and
 * a bare `host:port`: HTTP. Before a host may stand `user:token@`. Throws INVALID_ARGUMENT for what is no address,
 * UNSUPPORTED for other schemes; neither repeats what may be secret.
 */
export function parseAddress(address: string): Address {
  if (typeof address !== 'string' || address === '') throw invalid('an address was expected, such as unix:/run/kms.sock');
  const unix = /^(http\+)?unix:(?:\/\/(?=\/))?(.*)$/s.exec(address);
  if (unix !== null) return { ...socketAt(unix[2]!), protocol: unix[1] === undefined ? 'binary' : 'http' };
  if (BARE_HOST.test(address)) return hostAt('http', `http://${address}`);
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(address)?.[1];
  if (scheme !== undefined) return hostAt(scheme.toLowerCase(), address);
  if (address.includes('/') && !address.includes('@')) return socketAt(address);
  throw invalid('neither a path of a socket, nor unix:/path, nor host:port, nor a URL');
}

/** Throws INVALID_ARGUMENT for what cannot be the path of a socket. */
export function socketAt(path: string): Address {
  if (typeof path !== 'string' || path === '' || path.endsWith('/')) throw invalid('the path of a socket was expected');
  if (path.includes('\0')) throw invalid('a path has no zero byte');
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES) throw invalid(`a socket path has at most ${MAX_SOCKET_PATH_BYTES} bytes`);
  return { protocol: 'binary', place: { path }, prefix: '', userinfo: undefined };
}

/** A place as errors name it. */
export function nameOf(place: Place): string {
  return 'path' in place ? place.path : `${bracketed(place.host)}:${place.port}`;
}

/** What HTTP names as its `Host`: as every other client would, so that a server can tell its own name from a foreign one. */
export function hostHeaderOf(place: Place): string {
  if ('path' in place) return 'unix';
  const isUsual = place.port === (place.isTls ? SCHEMES['https']! : SCHEMES['http']!).port;
  return isUsual ? bracketed(place.host) : nameOf(place);
}

/** Whether what is sent there can be read on the way. */
export function isInTheClear(place: Place): boolean {
  if ('path' in place || place.isTls) return false;
  // Only what is an address: `127.0.0.999` is looked up as a name, and whoever answers for names says where that is.
  return !(place.host === 'localhost' || place.host === '::1' || (isIPv4(place.host) && place.host.startsWith('127.')));
}

function hostAt(name: string, text: string): Address {
  if (!Object.hasOwn(SCHEMES, name))
    throw new KmsError('UNSUPPORTED', 'address: the schemes are http, https, kms, kms+tls and unix');
  const { protocol, isTls, port: usual } = SCHEMES[name]!;
  // What the parser strips or turns round is refused: another reader could take it for another host. Its own errors would hold
  // the address.
  if (/[\s\\\p{Cc}]/u.test(text) || !URL.canParse(text)) throw invalid(`not a URL of the form ${name}://host:port`);
  const url = new URL(text);
  if (/[?#]/.test(text)) throw invalid('a query or fragment has no meaning here');
  const port = url.port === '' ? usual : Number(url.port);
  if (port === undefined || port === 0) throw invalid('a port was expected');
  if (!HOST.test(url.hostname)) throw invalid('a host name or address was expected');
  const prefix = url.pathname.replace(/\/+$/, '');
  if (protocol === 'binary' && prefix !== '') throw invalid('the binary protocol has no paths');
  const host = url.hostname.replace(/^\[|\]$/g, '').toLowerCase();
  return { protocol, place: { host, port, isTls }, prefix, userinfo: userinfoOf(url) };
}

function userinfoOf({ username, password }: URL): Address['userinfo'] {
  if (username === '' && password === '') return undefined;
  try {
    const user = decodeURIComponent(username);
    const token = decodeURIComponent(password);
    // A colon would end the name (RFC 7617).
    if (token !== '' && !user.includes(':')) return { user, token };
  } catch {
    // The error would hold what it could not read.
  }
  throw invalid('before the host user:token@ was expected, percent-encoded');
}

function bracketed(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}

function invalid(detail: string): KmsError {
  return new KmsError('INVALID_ARGUMENT', `address: ${detail}`);
}
