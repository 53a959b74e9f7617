import net from 'node:net';
import type tls from 'node:tls';
import { KmsError } from '../errors.js';
import { nameOf, type Place } from './address.js';

export interface TlsOptions {
  /** Certificates in PEM that a server's must lead to, in place of those Node trusts. */
  ca?: string | Buffer | Array<string | Buffer>;
  /** A client's own certificate chain and its key, in PEM. */
  cert?: string | Buffer;
  key?: string | Buffer;
  /** The name the server must prove; its host unless told. */
  servername?: string;
  /** TLSv1.2 unless told. */
  minVersion?: 'TLSv1.2' | 'TLSv1.3';
}

/** A place, and what shows that a key service listens there and not somebody else. */
export interface Server {
  place: Place;
  /** On a Unix socket: whether a server of this uid is spoken to. */
  trusts(uid: number): boolean;
  peerOf(fd: number): { uid: number };
  /** On a Unix socket: gives it room for many requests. */
  widen(fd: number): void;
  /** On a Unix socket: how many of the bytes the kernel took without waiting. */
  sendNow(fd: number, bytes: Uint8Array): number;
  /** Over TLS. */
  identity?: { tls: typeof tls; context: tls.SecureContext; servername: string | undefined };
  connectTimeoutMs: number;
}

const TLS_MEMBERS: Record<keyof TlsOptions, true> = { ca: true, cert: true, key: true, servername: true, minVersion: true };
/** A peer that vanished without a word is noticed after this time, and the kernel's probes. */
const KEEP_ALIVE_MS = 30_000;

/** Rejects with INVALID_ARGUMENT for options that are no such thing. */
export async function identityOf(options: TlsOptions = {}): Promise<NonNullable<Server['identity']>> {
  if (typeof options !== 'object' || options === null) throw invalid('an object was expected');
  for (const name of Object.keys(options)) if (!Object.hasOwn(TLS_MEMBERS, name)) throw invalid(`${name} is not known`);
  const { ca, cert, key, servername, minVersion = 'TLSv1.2' } = options;
  if (minVersion !== 'TLSv1.2' && minVersion !== 'TLSv1.3') throw invalid('minVersion: TLSv1.2 or TLSv1.3 was expected');
  if (servername !== undefined && (typeof servername !== 'string' || servername === ''))
    throw invalid('servername: a name was expected');
  if ((cert === undefined) !== (key === undefined)) throw invalid('cert and key: both or neither were expected');
  // Not before it is needed: what nobody uses makes every collection of an embedding process longer (measured).
  const { default: tls } = await import('node:tls');
  try {
    const given = Object.entries({ ca, cert, key }).filter(([, value]) => value !== undefined);
    return { tls, context: tls.createSecureContext({ ...Object.fromEntries(given), minVersion }), servername };
  } catch {
    // What OpenSSL says of them stays away: it is about the caller's key.
    throw invalid('ca, cert or key cannot be read as PEM, or do not belong together');
  }
}

/** A socket on its way there. `onread` serves Unix sockets and TCP; over TLS Node has 'data' only. */
export function dial({ place, identity }: Server, onread?: net.OnReadOpts): net.Socket {
  const reading = onread === undefined ? {} : { onread };
  if ('path' in place) return net.connect({ path: place.path, ...reading });
  const { host, port } = place;
  const alive = { noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS };
  if (identity === undefined) return net.connect({ host, port, ...alive, ...reading });
  const servername = identity.servername ?? (net.isIP(host) === 0 ? host : undefined);
  const socket = identity.tls.connect({
    host,
    port,
    secureContext: identity.context,
    // Said outright: an environment variable could turn the default off.
    rejectUnauthorized: true,
    ...(servername === undefined ? {} : { servername }),
  });
  return socket.setNoDelay(true).setKeepAlive(true, KEEP_ALIVE_MS);
}

/** The event after which a socket from `dial` can be written to. */
export function openEventOf({ identity }: Server): 'connect' | 'secureConnect' {
  return identity === undefined ? 'connect' : 'secureConnect';
}

/** Of a plain socket; −1 when it is closed. */
export function descriptorOf(socket: net.Socket): number {
  const { _handle: handle } = socket as unknown as { _handle: { fd: number } | null };
  return handle?.fd ?? -1;
}

/**
 * Why an open socket must not be written to: what is listening there may be anybody's, and the first request may carry plaintext.
 * Over TLS the handshake has answered that before; plain TCP has nothing to ask.
 */
export function distrust(server: Server, socket: net.Socket): KmsError | undefined {
  const { place } = server;
  if (!('path' in place)) return undefined;
  const fd = descriptorOf(socket);
  if (fd < 0) return lost('closed');
  try {
    const { uid } = server.peerOf(fd);
    if (server.trusts(uid)) return undefined;
    const who = `the server at ${place.path} runs as uid ${uid}, which is not trusted`;
    return new KmsError('PERMISSION_DENIED', `${who}: name it in serverUids or --server-uids if it is the daemon's`);
  } catch (cause) {
    return new KmsError('PERMISSION_DENIED', 'the uid of the server cannot be told', { cause });
  }
}

/** Why a socket never opened. */
export function notReached({ place, identity }: Server, socket: net.Socket, error: Error | undefined): KmsError {
  if (error instanceof KmsError) return error;
  if (identity !== undefined && socket instanceof identity.tls.TLSSocket && socket.authorizationError) {
    const why = String(socket.authorizationError);
    const detail = `the server at ${nameOf(place)} does not prove that it is the one: ${why}`;
    return new KmsError('PERMISSION_DENIED', detail, { cause: error });
  }
  const why = error === undefined ? 'closed' : reasonOf(error);
  return new KmsError('STORE_UNAVAILABLE', `cannot connect to the key service at ${nameOf(place)}: ${why}`, { cause: error });
}

export function tooSlow({ place, connectTimeoutMs }: Server): KmsError {
  return new KmsError('STORE_UNAVAILABLE', `no connection to ${nameOf(place)} in ${connectTimeoutMs} ms`);
}

export function lost(detail: string): KmsError {
  return new KmsError('STORE_UNAVAILABLE', `the connection to the key service was lost: ${detail}`);
}

export function reasonOf(error: Error): string {
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message;
}

function invalid(rule: string): KmsError {
  return new KmsError('INVALID_ARGUMENT', `tls: ${rule}`);
}
