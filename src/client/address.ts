import { KmsError } from '../errors.js';

/** The longest path of a Unix socket that every supported system takes, less its final zero (104 on macOS and the BSDs, 108 on Linux). */
const MAX_SOCKET_PATH_BYTES = process.platform === 'linux' ? 107 : 103;

/** Where a key service listens. */
export interface Address {
  path: string;
}

/**
 * A path with a slash in it, `unix:/path` or `unix:///path`. Throws INVALID_ARGUMENT for what is no address, UNSUPPORTED for the transports
 * that this version does not have.
 */
export function parseAddress(address: string): Address {
  if (typeof address !== 'string' || address === '') throw invalid('an address was expected, such as unix:/run/kms.sock');
  if (address.startsWith('unix:')) return socketAt(address.slice('unix:'.length).replace(/^\/\/(?=\/)/, ''));
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(address)) throw unsupported(`the transport ${address.slice(0, address.indexOf(':'))}://`);
  if (/^(\[[0-9a-f:.]+\]|[A-Za-z0-9.-]+):\d+$/i.test(address)) throw unsupported('TCP (host:port)');
  if (address.includes('/')) return socketAt(address);
  throw invalid('neither a path of a socket nor unix:/path');
}

/** Throws INVALID_ARGUMENT for what cannot be the path of a socket. */
export function socketAt(path: string): Address {
  if (typeof path !== 'string' || path === '' || path.endsWith('/')) throw invalid('the path of a socket was expected');
  if (path.includes('\0')) throw invalid('a path has no zero byte');
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES) throw invalid(`a socket path has at most ${MAX_SOCKET_PATH_BYTES} bytes`);
  return { path };
}

function invalid(detail: string): KmsError {
  return new KmsError('INVALID_ARGUMENT', `address: ${detail}`);
}

function unsupported(what: string): KmsError {
  return new KmsError('UNSUPPORTED', `${what} is not in this version; use unix:/path`);
}
