import { existsSync, realpathSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { connectAs } from '../client/caller-files.js';
import type { KmsClient } from '../client/kms-client.js';
import type { EmbeddedKms } from '../create.js';
import { ERROR_TABLE, KmsError } from '../errors.js';
import { type DaemonAddress, daemonAddressOf } from './address.js';
import { Failure, failureOf, isSystemError, MASTER_KEY_HINT, reasonOf } from './failure.js';
import { type Output, wireNames } from './output.js';
import type { Chosen, Settings } from './settings.js';

/** The key service a command works with: a running daemon, or the data directory itself. Whoever opened it closes it. */
export type Access = DaemonAccess | { kind: 'offline'; kms: EmbeddedKms; dataDir: string };

export interface DaemonAccess {
  kind: 'daemon';
  kms: KmsClient;
  address: DaemonAddress;
}

/** What a daemon is to be shown once it is reached: offline the caller goes into the database itself. */
export interface Into {
  databaseSecret?: string;
}

/**
 * Through the daemon if one answers, else on the data directory. What was asked for by name is never replaced: a socket named
 * by an option must answer unless a data directory is named as well, and a daemon must serve the directory that was named. A
 * daemon over TCP is never replaced, but by a data directory that an option names over an address from the environment.
 */
export async function openAccess(settings: Settings, output: Output, into: Into = {}): Promise<Access> {
  const daemon = await openRunning(settings, output, into);
  if (daemon !== undefined) return daemon;
  const offline = await openOffline(settings);
  output.detail(`no daemon serves it: working on ${settings.dataDir.value} itself`);
  return offline;
}

export const KEYRING = 'keyring.json';
/** The daemon that `openAccess` would take; undefined where it would open the data directory itself. */
export async function openRunning(settings: Settings, output: Output, into: Into = {}): Promise<DaemonAccess | undefined> {
  const address = daemonAddressOf(settings);
  const { socket } = address;
  const daemon = socket === undefined ? await overTcp(address, settings, into) : await onSocket(socket, address, settings, into);
  if (daemon !== undefined) output.detail(`through the daemon ${address.where}`);
  return daemon;
}

const RANK = { default: 0, environment: 1, flag: 2 };

/** Options that say who calls ask for a daemon as much as its address does. */
function askedBy({ address, callerFlags }: Settings): Chosen['from'] {
  return callerFlags.length > 0 ? 'flag' : address.from;
}

async function onSocket(
  socket: string,
  address: DaemonAddress,
  settings: Settings,
  into: Into,
): Promise<DaemonAccess | undefined> {
  const { dataDir, callerFlags } = settings;
  const asked = askedBy(settings);
  if (!(await answers(socket))) {
    if (callerFlags.length > 0 || (asked === 'flag' && dataDir.from !== 'flag')) throw noDaemon(address);
    return undefined;
  }
  const daemon = await reach(address, settings, into);
  if (RANK[asked] > RANK[dataDir.from] || (await servesOrCloses(daemon, dataDir))) return daemon;
  if (asked === dataDir.from) {
    throw new Failure('CONFLICT', `the daemon on ${socket} does not serve ${dataDir.value}`, 'name only one of the two');
  }
  return undefined;
}

async function overTcp(address: DaemonAddress, settings: Settings, into: Into): Promise<DaemonAccess | undefined> {
  return isOutranked(address, settings) ? undefined : await reach(address, settings, into);
}

/** Whether an option names a data directory, and only the environment a daemon over TCP. Throws USAGE if options name both. */
export function isOutranked({ where, socket }: DaemonAddress, settings: Settings): boolean {
  if (socket !== undefined || settings.dataDir.from !== 'flag') return false;
  if (askedBy(settings) !== 'flag') return true;
  const message = `--data-dir is a directory of this machine: whether the daemon ${where} serves it cannot be told`;
  throw new Failure('USAGE', message, 'name only one of the two');
}

/** The daemon, for what only a running one can do. */
export async function openDaemon(settings: Settings): Promise<DaemonAccess> {
  const address = daemonAddressOf(settings);
  isOutranked(address, settings);
  if (address.socket !== undefined && !(await answers(address.socket))) throw noDaemon(address);
  return await reach(address, settings);
}

/** The data directory itself; never makes a new store. `inspect` changes nothing in it, and is no start that makes a slot good. */
export async function openOffline(settings: Settings, { inspect = false } = {}): Promise<Access & { kind: 'offline' }> {
  const dataDir = settings.dataDir.value;
  if (settings.postgres === undefined && !existsSync(join(dataDir, KEYRING))) {
    throw noStore(`no daemon answers and ${dataDir} holds no key store`);
  }
  if (settings.masterKeyFile === undefined) {
    throw new Failure('USAGE', 'no daemon answers and no master key file is given', 'name it with --master-key-file FILE');
  }
  const { createEmbeddedKms } = await import('../create.js');
  try {
    const place = { dataDir, ...(settings.postgres && { store: settings.postgres }) };
    const kms = await createEmbeddedKms({ ...place, masterKeyFile: settings.masterKeyFile, initialise: false, inspect });
    return { kind: 'offline', kms, dataDir };
  } catch (error) {
    const failure = failureOf(error);
    throw failure.code === 'UNAUTHENTICATED' ? failure.with(MASTER_KEY_HINT) : failure;
  }
}

export function noStore(message: string): Failure {
  const hint = '`progressdb-kms init --master-key-file FILE` makes one; --socket and --data-dir name others';
  return new Failure('STORE_UNAVAILABLE', message, hint);
}

function noDaemon({ where, socket }: DaemonAddress, reason = ''): Failure {
  const hint = socket === undefined ? undefined : '`progressdb-kms serve` starts one';
  return new Failure('STORE_UNAVAILABLE', `no daemon answers ${where}${reason}`, hint);
}

/** Whether something listens. A socket that may not be used is an error: going round it would be met by the locked directory. */
export function answers(socket: string): Promise<boolean> {
  return new Promise((done, fail) => {
    const connection = connect(socket);
    connection.once('connect', () => {
      connection.destroy();
      done(true);
    });
    connection.once('error', (error) => {
      const code = isSystemError(error) ? error.code : undefined;
      if (code !== 'EACCES' && code !== 'EPERM') return done(false);
      const hint = `\`ls -l ${socket}\` shows whose it is: a new member of a group logs in again; serve --group names the group`;
      fail(new Failure('PERMISSION_DENIED', `permission denied: the socket ${socket} may not be used`, hint));
    });
  });
}

async function reach(address: DaemonAddress, { caller, serverUids }: Settings, into: Into = {}): Promise<DaemonAccess> {
  const { tokenFile } = caller;
  // An environment that is for TLS does no harm elsewhere.
  const files = address.tls !== undefined ? caller : tokenFile === undefined ? {} : { tokenFile };
  try {
    return { kind: 'daemon', kms: await connectAs(files, { ...address.target, serverUids, ...into }), address };
  } catch (error) {
    throw address.socket === undefined && error instanceof KmsError ? notReached(address, error) : error;
  }
}

function notReached(address: DaemonAddress, error: KmsError): Failure {
  if (error.code === 'STORE_UNAVAILABLE') {
    const detail = error.message.slice(ERROR_TABLE.STORE_UNAVAILABLE.message.length);
    return noDaemon(address, isSystemError(error.cause) ? `: ${reasonOf(error.cause)}` : detail);
  }
  const isUnproven = error.code === 'PERMISSION_DENIED' && address.tls !== undefined && error.cause !== undefined;
  if (!isUnproven) return failureOf(error);
  return failureOf(error).with('its certificate must be for this host, and of an authority that --ca-file names');
}

/** The connection is closed unless the answer is yes. */
async function servesOrCloses(daemon: DaemonAccess, dataDir: Chosen): Promise<boolean> {
  let isServed = false;
  try {
    isServed = await serves(daemon, dataDir);
    return isServed;
  } finally {
    if (!isServed) await daemon.kms.close();
  }
}

/** Whether the daemon is the one of the data directory that was named; the default one is not compared. */
async function serves({ kms }: DaemonAccess, dataDir: Chosen): Promise<boolean> {
  if (dataDir.from === 'default') return true;
  try {
    const { data_dir: served } = wireNames(await kms.status());
    return typeof served === 'string' && real(served) === real(dataDir.value);
  } catch (error) {
    if (!(error instanceof KmsError && error.code === 'PERMISSION_DENIED')) throw error;
    // A daemon that does not tell us its directory would hardly let us see into it: a store that we can see is another one.
    return !existsSync(join(dataDir.value, KEYRING));
  }
}

function real(path: string): string {
  return existsSync(path) ? realpathSync(path) : path;
}
