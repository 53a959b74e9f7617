import { KmsError } from '../errors.js';
import { MAX_CONNECTIONS_PER_UID } from '../limits.js';
import { binding } from '../native.js';
import { type Address, isInTheClear, parseAddress, socketAt } from './address.js';
import { Connection } from './connection.js';
import type { HttpKms } from './http/kms.js';
import { journalFor, type Logger } from './journal.js';
import type { KmsClient } from './kms-client.js';
import { LoggedConnection } from './logged-connection.js';
import { RemoteKms } from './remote.js';
import { identityOf, type Server, type TlsOptions } from './server.js';
import { MAX_SLOTS } from './slots.js';
import type { SpawnedKms, SpawnOptions } from './spawn/options.js';

export { type ErrorCode, KmsError } from '../errors.js';
export type * from '../provider.js';
export type { Logger, RequestFields } from './journal.js';
export type { Greeting, KmsClient } from './kms-client.js';
export type { TlsOptions } from './server.js';
export type { SpawnExit, SpawnLogger } from './spawn/options.js';
export type { HttpKms, SpawnedKms, SpawnOptions };
export { RemoteKms };

/** Numbers are whole and from 1 on; others are INVALID_ARGUMENT. */
export interface ConnectOptions {
  /** The path of the daemon's socket; or else `endpoint`. */
  socket?: string;
  /** An address, as `connectKms` takes it alone. */
  endpoint?: string;
  /** What shows who we are, where no uid does: `Authorization: Bearer` over HTTP, in each connection's hello else. */
  token?: string;
  /**
   * Of the client-sealed database that every call is about, as `newDatabase` gave it: over HTTP a header of each request, else given
   * once on each connection. It is copied, and held until `close`.
   */
  databaseSecret?: string | Uint8Array;
  /** Of `https://` and `kms+tls://`. */
  tls?: TlsOptions;
  /** Gets one line for each request; so does stderr under NODE_DEBUG=progressdb-kms. Never what a request carries. */
  logger?: Logger;
  /** On a Unix socket: uids the server may run as, beside our own and 0. */
  serverUids?: readonly number[];
  /** 5,000 unless told. */
  connectTimeoutMs?: number;
  /** Of calls that name none; 10,000 unless told. */
  deadlineMs?: number;
  /** The pause before connecting again doubles from the first of these to the second; 20 and 2,000 unless told. Not over HTTP. */
  reconnectMinMs?: number;
  reconnectMaxMs?: number;
  /** Connections over HTTP at once, at most 512; 64 unless told. */
  maxSockets?: number;
  /** Requests under way at once, at most 65,536, which it is unless told; the next one is rejected BUSY. */
  maxInFlight?: number;
  /**
   * Bytes of requests that may wait while the server does not read or is not there (over HTTP: does not answer); 64 MiB unless
   * told. Beyond: BUSY.
   */
  maxQueuedBytes?: number;
}

const DEFAULTS = {
  connectTimeoutMs: 5_000,
  deadlineMs: 10_000,
  reconnectMinMs: 20,
  reconnectMaxMs: 2_000,
  maxSockets: 64,
  maxInFlight: 65_536,
  maxQueuedBytes: 64 * 1024 * 1024,
};

/**
 * Connects to a daemon, by an address as README.md lists them, and resolves when it has answered.
 * Rejects with STORE_UNAVAILABLE if nobody serves there, PERMISSION_DENIED if the server runs as a uid that is not trusted or
 * its certificate does not prove its name, UNAUTHENTICATED for a token that is not taken (over HTTP the first call says so),
 * INVALID_ARGUMENT for what cannot be an address or an option of it, or would send a token in the clear.
 */
export async function connectKms(options: ConnectOptions & { socket: string }): Promise<RemoteKms>;
export async function connectKms(address: string | ConnectOptions): Promise<KmsClient>;
export async function connectKms(given: string | ConnectOptions): Promise<KmsClient> {
  const options: ConnectOptions = typeof given === 'string' ? { endpoint: given } : given;
  const address = addressOf(options);
  const { protocol, place } = address;
  if (options.tls !== undefined && ('path' in place || !place.isTls)) throw invalid('tls', 'this address is not one over TLS');
  const settings: Settings = {
    place,
    trusts: trustIn(options.serverUids ?? []),
    peerOf: (fd) => binding.peerOf(fd),
    widen: (fd) => binding.widenFd(fd),
    sendNow: (fd, bytes) => binding.sendNow(fd, bytes),
    ...('isTls' in place && place.isTls ? { identity: await identityOf(options.tls) } : {}),
    ...numbersOf(options),
    journal: journalFor(options.logger),
    token: tokenOf(address, options.token),
    databaseSecret: databaseSecretOf(address, options.databaseSecret),
  };
  return protocol === 'http' ? connectHttp(address, settings) : connectBinary(settings);
}

/**
 * Starts a daemon of this package in a process of its own and keeps one running: it is started anew when it ends, after pauses
 * that grow, until `stop`. It never outlives this process or thread. What it inherits is the listening socket and the key
 * file's descriptor, and no environment variable. Resolves when it answers. Rejects, and leaves nothing behind, with the
 * reason and under the code that the daemon ended with, or with DEADLINE_EXCEEDED if it did not answer in time;
 * with CONFLICT if somebody listens at `socket`, INVALID_ARGUMENT for wrong options.
 *
 * ```js
 * const spawned = await spawnKms({ dataDir: './kms-data', masterKeyFile: './kms-master.key' });
 * const kms = await spawned.connect();
 * ```
 */
export async function spawnKms(options: SpawnOptions): Promise<SpawnedKms> {
  // Not before it is needed: most clients start nothing.
  const { supervise } = await import('./spawn/supervisor.js');
  return await supervise(options, connectKms);
}

type Settings = Server &
  typeof DEFAULTS & { journal: ReturnType<typeof journalFor>; token: string | undefined; databaseSecret: Uint8Array | undefined };

async function connectBinary({ journal, ...settings }: Settings): Promise<RemoteKms> {
  const connection = journal === undefined ? new Connection(settings) : new LoggedConnection(settings, journal);
  const kms = new RemoteKms(connection, settings.token);
  try {
    await connection.open();
    await kms.hello();
    return kms;
  } catch (error) {
    connection.close();
    throw error;
  }
}

async function connectHttp(
  { prefix, userinfo }: Address,
  { token, databaseSecret: secret, ...settings }: Settings,
): Promise<HttpKms> {
  const basic = userinfo && `Basic ${Buffer.from(`${userinfo.user}:${userinfo.token}`).toString('base64')}`;
  const authorization = basic ?? (token === undefined ? undefined : `Bearer ${token}`);
  // A header is a string, which nobody can wipe; the bytes need not stay beside it.
  const databaseSecret = secret && Buffer.from(secret).toString('latin1');
  secret?.fill(0);
  // Not before it is needed: Node's HTTP is large.
  const [{ HttpKms }, { Channel }] = await Promise.all([import('./http/kms.js'), import('./http/channel.js')]);
  const kms = new HttpKms(new Channel({ ...settings, prefix, authorization, databaseSecret }));
  try {
    await kms.reach();
    return kms;
  } catch (error) {
    await kms.close();
    throw error;
  }
}

function addressOf(options: ConnectOptions): Address {
  if (typeof options !== 'object' || options === null) throw invalid('address', 'a string or options were expected');
  const { socket, endpoint } = options;
  if ((socket === undefined) === (endpoint === undefined)) throw invalid('socket, endpoint', 'exactly one of them was expected');
  return endpoint === undefined ? socketAt(socket!) : parseAddress(endpoint);
}

/** What a header takes as it is (RFC 6750), and more than any token is long. */
const TOKEN = /^[\x21-\x7e]{1,8192}$/;

function tokenOf({ place, userinfo }: Address, option: string | undefined): string | undefined {
  if (option !== undefined && userinfo !== undefined) throw invalid('token', 'the address has one already');
  const token = option ?? userinfo?.token;
  if (token === undefined) return undefined;
  if (typeof token !== 'string' || !TOKEN.test(token)) throw invalid('token', 'visible ASCII characters were expected');
  if (isInTheClear(place)) throw invalid('token', 'it would travel in the clear; use https:// or kms+tls://');
  return token;
}

/** What a secret looks like: whether it is one is for the server to say. */
const DATABASE_SECRET = /^[A-Za-z0-9+/]{1,256}={0,2}$/;

function databaseSecretOf({ place }: Address, option: string | Uint8Array | undefined): Uint8Array | undefined {
  if (option === undefined) return undefined;
  const text = typeof option === 'string' ? option : option instanceof Uint8Array ? Buffer.from(option).toString('latin1') : '';
  if (!DATABASE_SECRET.test(text)) throw invalid('databaseSecret', 'the text that newDatabase gave was expected');
  if (isInTheClear(place)) throw invalid('databaseSecret', 'it would travel in the clear; use https:// or kms+tls://');
  const secret = Buffer.from(new ArrayBuffer(text.length));
  secret.write(text, 'latin1');
  return secret;
}

/** The furthest a timer of Node reaches: 24 days. */
const MAX_MS = 2 ** 31 - 1;
/** Inclusive. `maxInFlight` has 16 bits in a request's id; a daemon takes 512 connections of one uid. */
const MOST: typeof DEFAULTS = {
  connectTimeoutMs: MAX_MS,
  deadlineMs: MAX_MS,
  reconnectMinMs: MAX_MS,
  reconnectMaxMs: MAX_MS,
  maxSockets: MAX_CONNECTIONS_PER_UID,
  maxInFlight: MAX_SLOTS,
  maxQueuedBytes: 2 ** 40,
};

function numbersOf(options: ConnectOptions): typeof DEFAULTS {
  const numbers = { ...DEFAULTS };
  for (const name of Object.keys(DEFAULTS) as Array<keyof typeof DEFAULTS>) {
    const value = options[name];
    if (value === undefined) continue;
    if (!Number.isInteger(value) || value < 1 || value > MOST[name])
      throw invalid(name, `a whole number from 1 to ${MOST[name]} was expected`);
    numbers[name] = value;
  }
  return numbers;
}

function trustIn(serverUids: readonly number[]): (uid: number) => boolean {
  if (!Array.isArray(serverUids) || !serverUids.every((uid) => Number.isInteger(uid) && uid >= 0)) {
    throw invalid('serverUids', 'an array of uids was expected');
  }
  const own = process.geteuid?.();
  return (uid) => uid === 0 || uid === own || serverUids.includes(uid);
}

function invalid(name: string, rule: string): KmsError {
  return new KmsError('INVALID_ARGUMENT', `${name}: ${rule}`);
}
