import { KmsError } from '../errors.js';
import { binding } from '../native.js';
import { parseAddress, socketAt } from './address.js';
import { Connection } from './connection.js';
import { RemoteKms } from './remote.js';
import { MAX_SLOTS } from './slots.js';

export { type ErrorCode, KmsError } from '../errors.js';
export type * from '../provider.js';
export type { Greeting } from './remote.js';
export { RemoteKms };

/** Numbers are whole and from 1 on; others are INVALID_ARGUMENT. */
export interface ConnectOptions {
  /** The path of the daemon's socket; or else `endpoint`. */
  socket?: string;
  /** An address, as `connectKms` takes it alone. */
  endpoint?: string;
  /** Not in this version: a Unix socket knows its peer by uid. */
  token?: string;
  /** Uids the server may run as, beside our own and 0. */
  serverUids?: readonly number[];
  /** 5,000 unless told. */
  connectTimeoutMs?: number;
  /** Of calls that name none; 10,000 unless told. */
  deadlineMs?: number;
  /** The pause before connecting again doubles from the first of these to the second; 20 and 2,000 unless told. */
  reconnectMinMs?: number;
  reconnectMaxMs?: number;
  /** Requests under way at once, at most 65,536, which it is unless told; the next one is rejected BUSY. */
  maxInFlight?: number;
  /** Bytes of requests that may wait while the server does not read or is not there; 64 MiB unless told. Beyond: BUSY. */
  maxQueuedBytes?: number;
}

const DEFAULTS = {
  connectTimeoutMs: 5_000,
  deadlineMs: 10_000,
  reconnectMinMs: 20,
  reconnectMaxMs: 2_000,
  maxInFlight: 65_536,
  maxQueuedBytes: 64 * 1024 * 1024,
};

/**
 * Connects to a daemon, by `'/run/progressdb-kms/kms.sock'` or `'unix:/run/…'`, and resolves when it has answered.
 * Rejects with STORE_UNAVAILABLE if nobody serves there, PERMISSION_DENIED if the server runs as a uid that is not trusted,
 * UNSUPPORTED for transports of other versions.
 */
export async function connectKms(address: string | ConnectOptions): Promise<RemoteKms> {
  const options: ConnectOptions = typeof address === 'string' ? { endpoint: address } : address;
  const { path } = addressOf(options);
  if (options.token !== undefined)
    throw new KmsError('UNSUPPORTED', 'token: a Unix socket needs none; TCP is not in this version');
  const connection = new Connection({
    path,
    ...numbersOf(options),
    trusts: trustIn(options.serverUids ?? []),
    peerOf: (fd) => binding.peerOf(fd),
  });
  const kms = new RemoteKms(connection);
  try {
    await connection.open();
    await kms.hello();
    return kms;
  } catch (error) {
    connection.close();
    throw error;
  }
}

function addressOf(options: ConnectOptions): { path: string } {
  if (typeof options !== 'object' || options === null) throw invalid('address', 'a string or options were expected');
  const { socket, endpoint } = options;
  if ((socket === undefined) === (endpoint === undefined)) throw invalid('socket, endpoint', 'exactly one of them was expected');
  return endpoint === undefined ? socketAt(socket!) : parseAddress(endpoint);
}

/** The furthest a timer of Node reaches: 24 days. */
const MAX_MS = 2 ** 31 - 1;
/** Inclusive. `maxInFlight` has 16 bits in a request's id. */
const MOST: typeof DEFAULTS = {
  connectTimeoutMs: MAX_MS,
  deadlineMs: MAX_MS,
  reconnectMinMs: MAX_MS,
  reconnectMaxMs: MAX_MS,
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
