import { resolve } from 'node:path';
import { type Address, type HostPlace, nameOf, parseAddress } from '../client/address.js';
import { Failure } from './failure.js';
import type { Settings } from './settings.js';

/** Where a daemon is looked for. */
export interface DaemonAddress {
  /** As people read it, `on /path` or `at URL`; nothing that is secret is in it. */
  where: string;
  name: string;
  /** The path of a Unix socket; undefined for a daemon that is spoken to over TCP, wherever it is. */
  socket: string | undefined;
  /** Over TLS. */
  tls: HostPlace | undefined;
  /** For `connectKms`. May hold a token. */
  target: { socket: string } | { endpoint: string };
}

/** Throws INVALID_ARGUMENT for what is no address, USAGE for options that it cannot go with. */
export function daemonAddressOf({ address, serverUids, callerFlags }: Settings): DaemonAddress {
  // Relative paths are for people: the library takes absolute ones only.
  const isPath = !/^[a-z][a-z0-9+.-]*:|:\d+$/i.test(address.value);
  const parsed = parseAddress(isPath ? resolve(address.value) : address.value);
  const { protocol, place, userinfo } = parsed;
  if (userinfo !== undefined && address.from === 'flag') {
    throw new Failure(
      'USAGE',
      'a token on the command line is seen by every user',
      'name a file that holds it: --token-file FILE',
    );
  }
  const tls = 'isTls' in place && place.isTls ? place : undefined;
  if (tls === undefined && callerFlags.some((file) => file !== 'tokenFile')) {
    throw new Failure('USAGE', '--ca-file, --cert-file and --key-file are for https:// and kms+tls:// addresses');
  }
  if ('path' in place) {
    const { path } = place;
    const target = protocol === 'binary' ? { socket: path } : { endpoint: `http+unix:${path}` };
    return { where: `on ${path}`, name: path, socket: path, tls, target };
  }
  if (serverUids.length > 0) throw new Failure('USAGE', '--server-uids is for Unix sockets: TCP does not tell who listens');
  const name = urlOf(parsed);
  return { where: `at ${name}`, name, socket: undefined, tls, target: { endpoint: address.value } };
}

function urlOf({ protocol, place, prefix }: Address): string {
  const isTls = 'isTls' in place && place.isTls;
  const scheme = protocol === 'http' ? (isTls ? 'https' : 'http') : isTls ? 'kms+tls' : 'kms';
  return `${scheme}://${nameOf(place)}${prefix}`;
}
