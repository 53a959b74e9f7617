import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { KmsError } from '../errors.js';
import {
  DEFAULT_ARENA_BYTES,
  DEFAULT_CACHED_KEYS,
  DEFAULT_CONTEXT_IDLE_MS,
  DEFAULT_KEPT_CONTEXTS,
  DEFAULT_KEY_IDLE_MS,
  FIRST_BYTE_TIMEOUT_MS,
  FRAME_TIMEOUT_MS,
  WRITE_STALL_TIMEOUT_MS,
} from '../limits.js';
import type { Access } from './identity.js';
import { NO_UID, OVERFLOW_UID } from './identity.js';

export const DEFAULT_SOCKET = '/tmp/progressdb-kms.sock';
export const DEFAULT_DATA_DIR = './kms-data';
/** sun_path of a Unix address has 108 bytes on Linux, 104 elsewhere, one of them the closing zero. */
const MAX_SOCKET_PATH_BYTES = process.platform === 'linux' ? 107 : 103;

/** Values as the command line gives them: text is parsed here, so that every source has the same rules and messages. */
export interface DaemonFlags {
  socket?: string | undefined;
  dataDir?: string | undefined;
  masterKeyFile?: string | undefined;
  /** An ephemeral master key and the memory store. */
  dev?: boolean | undefined;
  /** False: never make a new store. */
  init?: boolean | undefined;
  allowedUids?: string | undefined;
  adminUids?: string | undefined;
  auditorUids?: string | undefined;
  /** A group, by name or number, that may connect to the socket; its members' uids must be allowed as well. */
  group?: string | undefined;
  cachedKeys?: string | number | undefined;
  keptContexts?: string | number | undefined;
  contextIdleMs?: string | number | undefined;
  keyIdleMs?: string | number | undefined;
  arenaBytes?: string | number | undefined;
}

/** How long a peer may keep us waiting, in milliseconds. */
export interface Timeouts {
  firstByteMs: number;
  /** From a frame's first byte to its last. */
  frameMs: number;
  /** With answers it does not take. */
  writeStallMs: number;
}

export interface DaemonConfig {
  /** Absolute path. */
  socket: string;
  socketGroup: number | undefined;
  /** Loopback addresses to listen on with TCP. */
  endpoints: Array<{ host: string; port: number }>;
  /** Absolute path; undefined with `dev`. */
  dataDir: string | undefined;
  masterKeyFile: string | undefined;
  dev: boolean;
  initialise: boolean;
  /** Refuses unlocked memory and an inspector. */
  strict: boolean;
  access: Access;
  timeouts: Timeouts;
  cachedKeys: number;
  keptContexts: number;
  contextIdleMs: number;
  keyIdleMs: number;
  arenaBytes: number;
}

interface Setting {
  /** How an error names where the value came from. */
  source: string;
  text: string;
}

function invalid(setting: Setting, rule: string): KmsError {
  return new KmsError('INVALID_ARGUMENT', `${setting.source}: ${rule}, not ${JSON.stringify(setting.text)}`);
}

/** The first of flag and variables that is given. An empty variable counts as absent, as shells and units leave them. */
function pick(
  flag: [name: string, value: string | number | undefined],
  env: NodeJS.ProcessEnv,
  ...variables: string[]
): Setting | undefined {
  if (flag[1] !== undefined) return { source: `--${flag[0]}`, text: String(flag[1]) };
  for (const name of variables) {
    const text = env[name];
    if (text !== undefined && text !== '') return { source: name, text };
  }
  return undefined;
}

function socketPath(setting: Setting): string {
  const text = setting.text.startsWith('unix://') ? setting.text.slice('unix://'.length) : setting.text;
  if (text === '' || text.includes('\0')) throw invalid(setting, 'must be the path of a socket');
  if (!text.includes('/') && /:\d+$/.test(text))
    throw invalid(setting, 'must be a path (this version listens on a Unix socket only)');
  const path = resolve(text);
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH_BYTES) {
    throw invalid(setting, `must be a path of at most ${MAX_SOCKET_PATH_BYTES} bytes`);
  }
  return path;
}

function filePath(setting: Setting): string {
  if (setting.text === '' || setting.text.includes('\0')) throw invalid(setting, 'must be a path');
  return resolve(setting.text);
}

function uids(setting: Setting | undefined): number[] {
  if (setting === undefined || setting.text.trim() === '') return [];
  return setting.text.split(',').map((part) => {
    const digits = part.trim();
    const uid = /^\d{1,10}$/.test(digits) ? Number(digits) : Number.NaN;
    if (!(uid < NO_UID)) throw invalid(setting, 'must be user ids, separated by commas');
    if (uid === OVERFLOW_UID) throw invalid(setting, `must not hold ${OVERFLOW_UID}, the uid of everybody unknown`);
    return uid;
  });
}

function count(setting: Setting | undefined, fallback: number, least: number, most: number): number {
  if (setting === undefined) return fallback;
  const value = /^\d{1,15}$/.test(setting.text) ? Number(setting.text) : Number.NaN;
  if (!(value >= least && value <= most)) throw invalid(setting, `must be a whole number from ${least} to ${most}`);
  return value;
}

/** Group names are read from the file and not through the system's directory services, which may ask the network. */
function groupId(setting: Setting | undefined, groupFile = '/etc/group'): number | undefined {
  if (setting === undefined) return undefined;
  if (/^\d{1,10}$/.test(setting.text) && Number(setting.text) < NO_UID) return Number(setting.text);
  const line = readFileSync(groupFile, 'utf8')
    .split('\n')
    .find((candidate) => candidate.split(':')[0] === setting.text);
  const gid = line?.split(':')[2];
  if (setting.text === '' || gid === undefined || !/^\d+$/.test(gid))
    throw invalid(setting, `must be a group of ${groupFile} or a number`);
  return Number(gid);
}

function masterKeyFile(flags: DaemonFlags, env: NodeJS.ProcessEnv): string | undefined {
  if (flags.dev) {
    if (flags.masterKeyFile !== undefined) {
      throw new KmsError('INVALID_ARGUMENT', '--master-key-file: cannot be combined with --dev, which makes an ephemeral key');
    }
    return undefined;
  }
  const setting = pick(
    ['master-key-file', flags.masterKeyFile],
    env,
    'PROGRESSDB_KMS_MASTER_KEY_FILE',
    'PROGRESSDB_MINIKMS_MASTER_KEY_FILE',
  );
  if (setting !== undefined) return filePath(setting);
  const inline = ['PROGRESSDB_KMS_MASTER_KEY_HEX', 'PROGRESSDB_MINIKMS_MASTER_KEY'].find((name) => env[name]);
  if (inline !== undefined) {
    throw new KmsError('UNSUPPORTED', `${inline}: a key in the environment is not read by this version; give --master-key-file`);
  }
  throw new KmsError(
    'INVALID_ARGUMENT',
    '--master-key-file: no master key is given; make one with `progressdb-kms init --master-key-file FILE`, or use --dev to try things out',
  );
}

/** Flags over environment over defaults. Throws a KmsError of one line that names the key at fault. */
export function resolveConfig(flags: DaemonFlags, env: NodeJS.ProcessEnv): DaemonConfig {
  const dev = flags.dev === true;
  if (dev && flags.dataDir !== undefined) {
    throw new KmsError('INVALID_ARGUMENT', '--data-dir: cannot be combined with --dev, which stores nothing');
  }
  const socket = pick(['socket', flags.socket], env, 'PROGRESSDB_KMS_SOCKET');
  const dataDir = pick(['data-dir', flags.dataDir], env, 'PROGRESSDB_KMS_DATA_DIR');
  const numberOf = (name: string, value: string | number | undefined, fallback: number, least: number, most: number): number =>
    count(pick([name, value], env), fallback, least, most);
  return {
    socket: socket === undefined ? DEFAULT_SOCKET : socketPath(socket),
    endpoints: [],
    socketGroup: groupId(pick(['group', flags.group], env)),
    dataDir: dev ? undefined : filePath(dataDir ?? { source: '--data-dir', text: DEFAULT_DATA_DIR }),
    masterKeyFile: masterKeyFile(flags, env),
    dev,
    initialise: flags.init !== false,
    strict: !dev,
    access: {
      allowedUids: uids(pick(['allowed-uids', flags.allowedUids], env, 'PROGRESSDB_MINIKMS_ALLOWED_UIDS')),
      adminUids: uids(pick(['admin-uids', flags.adminUids], env)),
      auditorUids: uids(pick(['auditor-uids', flags.auditorUids], env)),
      unauthenticatedLoopbackRoles: [],
    },
    timeouts: { firstByteMs: FIRST_BYTE_TIMEOUT_MS, frameMs: FRAME_TIMEOUT_MS, writeStallMs: WRITE_STALL_TIMEOUT_MS },
    cachedKeys: numberOf('cached-keys', flags.cachedKeys, DEFAULT_CACHED_KEYS, 1, 10_000_000),
    keptContexts: numberOf('kept-contexts', flags.keptContexts, DEFAULT_KEPT_CONTEXTS, 0, 65_536),
    contextIdleMs: numberOf('context-idle-ms', flags.contextIdleMs, DEFAULT_CONTEXT_IDLE_MS, 0, 2 ** 31 - 1),
    keyIdleMs: numberOf('key-idle-ms', flags.keyIdleMs, DEFAULT_KEY_IDLE_MS, 0, 2 ** 31 - 1),
    arenaBytes: numberOf('arena-bytes', flags.arenaBytes, DEFAULT_ARENA_BYTES, 64 * 1024, 2 ** 31),
  };
}
