import { existsSync, realpathSync } from 'node:fs';
import { connect } from 'node:net';
import { join, resolve } from 'node:path';
import { parseAddress } from '../client/address.js';
import type { RemoteKms } from '../client/index.js';
import type { EmbeddedKms } from '../create.js';
import { KmsError } from '../errors.js';
import { Failure, isSystemError } from './failure.js';
import { type Output, wireNames } from './output.js';
import type { Chosen, Settings } from './settings.js';

/** The key service a command works with: a running daemon, or the data directory itself. Whoever opened it closes it. */
export type Access = { kind: 'daemon'; kms: RemoteKms; socket: string } | { kind: 'offline'; kms: EmbeddedKms; dataDir: string };

/**
 * Through the daemon if one answers, else on the data directory. What was asked for by name is never replaced: a socket named
 * by an option must answer unless a data directory is named as well, and a daemon must serve the directory that was named.
 */
export async function openAccess(settings: Settings, output: Output): Promise<Access> {
  const { address, dataDir } = settings;
  const socket = socketPathOf(address.value);
  if (await answers(socket)) {
    const daemon = await reach(socket, settings);
    if (RANK[address.from] > RANK[dataDir.from] || (await servesOrCloses(daemon, dataDir))) {
      output.detail(`through the daemon on ${socket}`);
      return daemon;
    }
    if (address.from === dataDir.from) {
      throw new Failure('CONFLICT', `the daemon on ${socket} does not serve ${dataDir.value}`, 'name only one of the two');
    }
  } else if (address.from === 'flag' && dataDir.from !== 'flag') {
    throw noDaemon(socket);
  }
  const offline = await openOffline(settings);
  output.detail(`no daemon serves it: working on ${dataDir.value} itself`);
  return offline;
}

const KEYRING = 'keyring.json';
const RANK = { default: 0, environment: 1, flag: 2 };

/** The daemon, for what only a running one can do. */
export async function openDaemon(settings: Settings): Promise<Access & { kind: 'daemon' }> {
  const socket = socketPathOf(settings.address.value);
  if (!(await answers(socket))) throw noDaemon(socket);
  return await reach(socket, settings);
}

/** The data directory itself; never makes a new store. */
export async function openOffline(settings: Settings): Promise<Access & { kind: 'offline' }> {
  const dataDir = settings.dataDir.value;
  if (!existsSync(join(dataDir, KEYRING))) {
    const hint = '`progressdb-kms init --master-key-file FILE` makes one; --socket and --data-dir name others';
    throw new Failure('STORE_UNAVAILABLE', `no daemon answers and ${dataDir} holds no key store`, hint);
  }
  if (settings.masterKeyFile === undefined) {
    throw new Failure('USAGE', 'no daemon answers and no master key file is given', 'name it with --master-key-file FILE');
  }
  const { createEmbeddedKms } = await import('../create.js');
  const kms = await createEmbeddedKms({ dataDir, masterKeyFile: settings.masterKeyFile, initialise: false });
  return { kind: 'offline', kms, dataDir };
}

/** The absolute path behind an address. Relative paths are for people: the library takes absolute ones only. */
export function socketPathOf(address: string): string {
  const isPath = !/^[a-z][a-z0-9+.-]*:|:\d+$/i.test(address);
  const { protocol, place } = parseAddress(isPath ? resolve(address) : address);
  if ('path' in place && protocol === 'binary') return place.path;
  throw new KmsError('UNSUPPORTED', 'commands work through a Unix socket only: unix:/path');
}

function noDaemon(socket: string): Failure {
  return new Failure('STORE_UNAVAILABLE', `no daemon answers on ${socket}`, '`progressdb-kms serve` starts one');
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
      if (code === 'EACCES' || code === 'EPERM') fail(new KmsError('PERMISSION_DENIED', `the socket ${socket} may not be used`));
      else done(false);
    });
  });
}

async function reach(socket: string, { serverUids }: Settings): Promise<Access & { kind: 'daemon' }> {
  const { connectKms } = await import('../client/index.js');
  return { kind: 'daemon', kms: await connectKms({ socket, serverUids }), socket };
}

/** The connection is closed unless the answer is yes. */
async function servesOrCloses(daemon: Access & { kind: 'daemon' }, dataDir: Chosen): Promise<boolean> {
  let isServed = false;
  try {
    isServed = await serves(daemon, dataDir);
    return isServed;
  } finally {
    if (!isServed) await daemon.kms.close();
  }
}

/** Whether the daemon is the one of the data directory that was named; the default one is not compared. */
async function serves({ kms }: Access & { kind: 'daemon' }, dataDir: Chosen): Promise<boolean> {
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
