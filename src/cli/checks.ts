import { lstatSync, readdirSync, readFileSync, type Stats, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { TOKEN_FILE, tokenFileOf } from '../daemon/token-file.js';
import { systemClock, Tokens } from '../daemon/tokens.js';
import { nodeFileSystem } from '../store/file-system.js';
import { leftOfMigration } from '../store/kind.js';

/** One thing `doctor` looked at. Only `fail` makes it exit with 1. */
export interface Finding {
  check: string;
  verdict: 'ok' | 'advice' | 'fail';
  message: string;
  /** The command that mends it. */
  mend: string | null;
}

export const ok = (check: string, message: string): Finding => ({ check, verdict: 'ok', message, mend: null });
export const advice = (check: string, message: string, mend: string): Finding => ({ check, verdict: 'advice', message, mend });
export const fail = (check: string, message: string, mend: string): Finding => ({ check, verdict: 'fail', message, mend });

/** As a shell reads it back unchanged. */
export function quoted(path: string): string {
  return /^[\w@%+=:,./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}

export const doctorAs = (uid: number): string => `sudo -u '#${uid}' progressdb-kms doctor`;

const octal = (stats: Stats) => (stats.mode & 0o7777).toString(8).padStart(4, '0');

/** The directory, its folders and every file in them: of one user, ours unless we are root, and closed to everybody else. */
export function checkDataDir(dataDir: string, uid: number): Finding[] {
  const stats = statSync(dataDir, { throwIfNoEntry: false });
  if (stats === undefined) {
    const mend = `progressdb-kms init --data-dir ${quoted(dataDir)} --master-key-file FILE`;
    return [fail('data-dir', `${dataDir} does not exist`, mend)];
  }
  // Root may work on the store of a service's user, whose everything in it must stay.
  const owner = uid === 0 ? stats.uid : uid;
  const foreign: string[] = [];
  const open: string[] = [];
  for (const path of [dataDir, ...entriesOf(dataDir)]) {
    const entry = lstatSync(path, { throwIfNoEntry: false });
    if (entry === undefined) continue;
    if (entry.uid !== owner) foreign.push(path);
    if ((entry.mode & 0o077) !== 0 && !entry.isSymbolicLink()) open.push(`${path} (${octal(entry)})`);
  }
  const found: Finding[] = [];
  if (foreign.length > 0) {
    const whose = uid === 0 ? 'the directory does' : 'the one who runs this';
    const message = `${some(foreign)} belongs to another user than ${whose}`;
    found.push(fail('data-dir', message, `chown -R ${owner} ${quoted(dataDir)}`));
  }
  if (open.length > 0) {
    found.push(fail('data-dir', `${some(open)} is open to other users`, `chmod -R u=rwX,go= ${quoted(dataDir)}`));
  }
  return found.length > 0 ? found : [ok('data-dir', `${dataDir} is closed to other users`)];
}

function entriesOf(dataDir: string): string[] {
  const deks = join(dataDir, 'kms-deks');
  const list = (folder: string) => (statSync(folder, { throwIfNoEntry: false })?.isDirectory() ? readdirSync(folder) : []);
  return [...list(dataDir).map((name) => join(dataDir, name)), ...list(deks).map((name) => join(deks, name))];
}

function some(paths: string[]): string {
  return paths.length === 1 ? (paths[0] as string) : `${paths[0]} and ${paths.length - 1} more`;
}

/** The rules the native reader enforces, said before it refuses. */
export function checkKeyFile(
  path: string,
  dataDir: string | undefined,
  uid: number,
  credentialsDir: string | undefined,
): Finding[] {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats === undefined) return [fail('key-file', `${path} does not exist`, `cp BACKUP ${quoted(path)}`)];
  const found: Finding[] = [];
  if (stats.uid !== uid && stats.uid !== 0) {
    // Root looks at what is of a service's user: given to root, that user could not read it any more.
    const isOfService = uid === 0 && dataDir !== undefined && statSync(dataDir, { throwIfNoEntry: false })?.uid === stats.uid;
    const message = `${path} belongs to uid ${stats.uid}`;
    if (isOfService) found.push(advice('key-file', `${message}, as the data directory does`, doctorAs(stats.uid)));
    else found.push(fail('key-file', message, `chown ${uid} ${quoted(path)}`));
  }
  const mayBeGroupReadable = credentialsDir !== undefined && path.startsWith(`${credentialsDir}/`);
  if ((stats.mode & (mayBeGroupReadable ? 0o037 : 0o077)) !== 0) {
    found.push(fail('key-file', `${path} is open to other users (${octal(stats)})`, `chmod 600 ${quoted(path)}`));
  }
  if (dataDir !== undefined && path.startsWith(`${dataDir}/`)) {
    const message = `${path} is inside the data directory: a copy of that holds its own key`;
    found.push(fail('key-file', message, `mv ${quoted(path)} ${quoted(`${dataDir}.key`)}`));
  }
  return found.length > 0 ? found : [ok('key-file', `${path} is closed to other users`)];
}

/** The socket file by itself; whether it answers, and who, is asked through it. */
export function checkSocketFile(path: string): Finding[] {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  if (stats === undefined) return [];
  if (!stats.isSocket()) return [fail('socket', `${path} is not a socket`, `rm ${quoted(path)}`)];
  const found: Finding[] = [];
  if ((stats.mode & 0o007) !== 0) {
    found.push(fail('socket', `${path} is open to all users (${octal(stats)})`, `chmod 600 ${quoted(path)}`));
  }
  if ((statSync(dirname(path)).mode & 0o002) !== 0) {
    const message = `${path} is in a folder where any user may take the name while no daemon runs`;
    found.push(advice('socket', message, 'progressdb-kms serve --socket /run/progressdb-kms/kms.sock'));
  }
  return found;
}

/** The access tokens, as the daemon reads them: a fault in their file refuses all of them. Nothing is said where there are none. */
export function checkTokens(dataDir: string, uid: number): Finding[] {
  const path = tokenFileOf(dataDir);
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return [];
  // To root, as to the one whose daemon it is.
  const owner = uid === 0 ? statSync(dataDir).uid : uid;
  const tokens = new Tokens(dataDir, systemClock, { ...nodeFileSystem, effectiveUid: () => owner });
  const fault = tokens.fault();
  if (fault !== null) return [fail('tokens', `every token is refused: ${fault}`, `cp BACKUP/${TOKEN_FILE} ${quoted(path)}`)];
  return [ok('tokens', `${tokens.count()} in force`)];
}

/** What the system may do with memory that is not in the locked arena: plaintexts pass through it. */
export function checkSystem(): Finding[] {
  if (process.platform !== 'linux') return [];
  const found: Finding[] = [];
  const swaps = readFileSync('/proc/swaps', 'utf8').trim().split('\n').slice(1);
  if (swaps.length > 0) {
    found.push(advice('swap', 'swap is on: keys are locked, but plaintexts in transit can reach the disk', 'swapoff -a'));
  } else found.push(ok('swap', 'swap is off'));
  if (softCoreLimit() !== '0') {
    const message = 'core files are on: the daemon turns them off for itself, a process that embeds the service must';
    found.push(advice('core', message, 'ulimit -c 0'));
  } else found.push(ok('core', 'core files are off'));
  return found;
}

function softCoreLimit(): string | undefined {
  return /^Max core file size\s+(\S+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
}

const MIB = 1024 * 1024;

/** Where keys live, and how many bytes of it the limit allows. */
export function checkMemory(protection: string, memlockLimit: number, arenaBytes: number): Finding[] {
  const limit = memlockLimit === Number.POSITIVE_INFINITY ? 'unlimited' : `${(memlockLimit / MIB).toFixed(1)} MiB`;
  const found = [checkProtection(protection, arenaBytes)];
  if (memlockLimit < arenaBytes) {
    found.push(advice('memlock', `the limit of ${limit} is less than the arena wants`, raisedLimit(arenaBytes)));
  } else found.push(ok('memlock', `limit ${limit}`));
  return found;
}

export function checkProtection(protection: string, arenaBytes: number): Finding {
  if (protection !== 'none') return ok('memory', `protection ${protection}`);
  return fail('memory', 'keys would lie in memory that can be swapped', raisedLimit(arenaBytes));
}

function raisedLimit(arenaBytes: number): string {
  return `ulimit -l ${Math.ceil(arenaBytes / 1024)}`;
}

/** Records carry the time of their last write: a clock before it is wrong, or the data directory came from elsewhere. */
export function checkClock(now: number, newest: string | undefined): Finding {
  const mend = 'timedatectl set-ntp true';
  if (newest !== undefined && now < Date.parse(newest)) {
    return fail('clock', `the clock says ${new Date(now).toISOString()}, the newest record ${newest}`, mend);
  }
  return ok('clock', 'not before the newest record');
}

/** Nothing is said where there is one store, or none. */
export function checkStores(dataDir: string): Finding[] {
  const [left, ...more] = leftOfMigration(dataDir);
  if (left === undefined) return [];
  const message = `${[left, ...more].join(', ')} of before a migration: older than the live store, and with the same keys`;
  return [advice('store', message, `progressdb-kms store migrate --remove-source --data-dir ${quoted(dataDir)}`)];
}
