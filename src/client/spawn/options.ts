import { resolve } from 'node:path';
import { KmsError } from '../../errors.js';
import { MAX_TIMER_MS, RETURN_USES_MS, STOP_GRACE_MS } from '../../limits.js';
import type { ConnectOptions } from '../index.js';
import type { RemoteKms } from '../remote.js';

/** How a daemon ended. */
export interface SpawnExit {
  /** Undefined if there was none: it could not even be started. */
  pid: number | undefined;
  code: number | null;
  signal: NodeJS.Signals | null;
  /** The last it said on standard error, `''` for nothing. */
  reason: string;
  /** Until the next one is started; undefined if none will be. */
  restartInMs: number | undefined;
}

/** What takes the lines; loggers such as pino's are one. */
export type SpawnLogger = Record<'debug' | 'info' | 'warn' | 'error', (fields: Record<string, unknown>, message: string) => void>;

/** Numbers are whole; those of milliseconds from 1 on. Others are INVALID_ARGUMENT. */
export interface SpawnOptions {
  /** Of the key store, which is made if there is none (unless `flags` hold `--no-init`). */
  dataDir?: string;
  /** The path of the master key. */
  masterKeyFile?: string;
  /** Or an open regular file that holds it, which stays the caller's and must stay open: each start reads it anew. */
  masterKeyFd?: number;
  /** Where to listen, open to this user only; a socket in a new directory of 0700 below `os.tmpdir()` unless told. */
  socket?: string;
  /** Users who may make keys, encrypt and decrypt; our own unless told. */
  allowedUids?: readonly number[];
  /** Further flags of `progressdb-kms serve`. */
  flags?: readonly string[];
  /** Within which a daemon must answer; 10,000 unless told. */
  startTimeoutMs?: number;
  /** From SIGTERM to SIGKILL at the stop; 15,000 unless told, which is more than the daemon takes itself. */
  stopGraceMs?: number;
  /** The pause before a restart doubles from the first of these to the second; 100 and 10,000 unless told. */
  restartMinMs?: number;
  restartMaxMs?: number;
  /** Restarts in a row after which it gives up, where none served for `restartMaxMs`; from 0 on, without end unless told. */
  maxRestarts?: number;
  /** Gets the daemon's log, line by line, and ours of its starts and ends. Without one they go to standard error. */
  logger?: SpawnLogger;
  /** After each end of a daemon that `stop` did not ask for. */
  onExit?(exit: SpawnExit): void;
}

/** A daemon that is kept running. */
export interface SpawnedKms {
  /** The path of its socket: the same through all restarts. */
  readonly socket: string;
  /** The same as an address. */
  readonly endpoint: string;
  /** Undefined while none runs. */
  readonly pid: number | undefined;
  readonly restarts: number;
  /** As `connectKms` does. Connections outlive restarts; requests that were under way are rejected with STORE_UNAVAILABLE. */
  connect(options?: Omit<ConnectOptions, 'socket' | 'endpoint'>): Promise<RemoteKms>;
  /**
   * Takes the socket away, has the daemon finish what is under way (SIGTERM), and kills it when `stopGraceMs` are over. Resolves
   * when it is gone, and its socket and private directory with it. May be called again.
   */
  stop(): Promise<void>;
}

/** Options that have been checked, with their defaults; paths are absolute. */
export interface Settings {
  args: readonly string[];
  masterKeyFd: number | undefined;
  /** Of the service manager: whose credentials may be read by their group. */
  credentials: string | undefined;
  socket: string | undefined;
  startTimeoutMs: number;
  stopGraceMs: number;
  restartMinMs: number;
  restartMaxMs: number;
  maxRestarts: number;
}

/** What follows the listening socket, which is descriptor 3 (sd_listen_fds(3)). */
export const PARENT_FD = 4;
export const MASTER_KEY_FD = 5;

const DEFAULTS = {
  startTimeoutMs: 10_000,
  stopGraceMs: STOP_GRACE_MS + RETURN_USES_MS + 3_000,
  restartMinMs: 100,
  restartMaxMs: 10_000,
  maxRestarts: Number.POSITIVE_INFINITY,
};

export function settingsOf(options: SpawnOptions): Settings {
  if (typeof options !== 'object' || options === null) throw invalid('options', 'an object was expected');
  const { masterKeyFd } = options;
  const dataDir = pathOf('dataDir', options.dataDir);
  const masterKeyFile = pathOf('masterKeyFile', options.masterKeyFile);
  if (masterKeyFd !== undefined && !isCount(masterKeyFd, 0)) throw invalid('masterKeyFd', 'a descriptor was expected');
  const credentials = process.env['CREDENTIALS_DIRECTORY'];
  const isCredential = credentials !== undefined && masterKeyFile?.startsWith(`${credentials}/`);
  return {
    // The parent's flag comes last: of one that is given twice the last holds.
    args: [
      'serve',
      ...(dataDir === undefined ? [] : ['--data-dir', dataDir]),
      ...(masterKeyFile === undefined ? [] : ['--master-key-file', masterKeyFile]),
      ...(masterKeyFd === undefined ? [] : ['--master-key-fd', String(MASTER_KEY_FD)]),
      ...['--allowed-uids', uidsOf(options.allowedUids)],
      ...flagsOf(options.flags),
      ...['--parent-fd', String(PARENT_FD)],
    ],
    masterKeyFd,
    credentials: isCredential ? credentials : undefined,
    socket: pathOf('socket', options.socket),
    ...numbersOf(options),
  };
}

function pathOf(name: string, path: string | undefined): string | undefined {
  if (path === undefined) return undefined;
  if (typeof path !== 'string' || path === '' || path.includes('\0')) throw invalid(name, 'a path was expected');
  return resolve(path);
}

function uidsOf(uids: readonly number[] = [process.geteuid?.() ?? -1]): string {
  if (!Array.isArray(uids) || !uids.every((uid) => isCount(uid, 0)))
    throw invalid('allowedUids', 'an array of uids was expected');
  return uids.join(',');
}

function flagsOf(flags: readonly string[] = []): readonly string[] {
  const isFlag = (flag: unknown) => typeof flag === 'string' && !flag.includes('\0');
  if (!Array.isArray(flags) || !flags.every(isFlag)) throw invalid('flags', 'an array of strings was expected');
  return flags;
}

function numbersOf(options: SpawnOptions): typeof DEFAULTS {
  const numbers = { ...DEFAULTS };
  for (const name of Object.keys(DEFAULTS) as Array<keyof typeof DEFAULTS>) {
    const value = options[name];
    const least = name === 'maxRestarts' ? 0 : 1;
    if (value === undefined || (name === 'maxRestarts' && value === Number.POSITIVE_INFINITY)) continue;
    if (!isCount(value, least)) throw invalid(name, `a whole number from ${least} to ${MAX_TIMER_MS} was expected`);
    numbers[name] = value;
  }
  return numbers;
}

function isCount(value: unknown, least: number): value is number {
  return Number.isInteger(value) && (value as number) >= least && (value as number) <= MAX_TIMER_MS;
}

export function invalid(name: string, rule: string): KmsError {
  return new KmsError('INVALID_ARGUMENT', `${name}: ${rule}`);
}
