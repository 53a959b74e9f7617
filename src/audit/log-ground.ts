import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { KmsError } from '../errors.js';
import { FILE_MODE, ownerToKeep, refuseWider } from '../store/data-directory.js';
import {
  APPEND_FLAGS,
  CREATE_FLAGS,
  DIRECTORY_FLAGS,
  errnoOf,
  type FileSystem,
  NEW_LOG_FLAGS,
  READ_FLAGS,
} from '../store/file-system.js';
import { BrokenChain, type LogEnd, NO_LINES, readLogEnd } from './log-end.js';
import { LOG_NAME, LogFile, makeFile } from './log-file.js';

const OLD_LOG = /^kms-audit-(\d{16})\.log$/;
const UNRECORDED = /^kms-audit\.log\.torn-[0-9TZ.-]+\.unrecorded$/;
const PIECE_BYTES = 1024 * 1024;

/** A torn end that was set aside and stands in no line yet. */
export interface Torn {
  bytes: number;
  sha256: string;
  /** As it is called once a line has recorded it. */
  file: string;
}

export interface Ground {
  file: LogFile;
  end: LogEnd;
  torn: Torn[];
  /** A line about it is durable: gives it its last name. A crash before this has it recorded twice. */
  recorded(torn: Torn): Promise<void>;
}

export interface LogOptions {
  maxFileBytes: number;
  /** A log that cannot be gone on with is set aside, and another chain begins. */
  mayBeginAnew: boolean;
  /** The public keys that can sign the next line, in base64. */
  signers: readonly string[];
  /** Lines that have become durable. */
  onDurable(lines: Uint8Array): void;
}

interface Directory {
  system: FileSystem;
  directory: string;
  directoryFd: number;
  owner: { uid: number; gid: number } | undefined;
}

/** Opens a log that is there; undefined if there is none. */
async function openThere({ system, directory }: Directory, name: string, flags: number) {
  const path = join(directory, name);
  let fd: number;
  try {
    fd = await system.open(path, flags, 0);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
  try {
    const stats = await system.fstat(fd);
    if (!stats.isFile()) throw new KmsError('AUDIT_UNAVAILABLE', `${path} is not a regular file`);
    refuseWider(system, path, stats, FILE_MODE);
    return { fd, bytes: stats.size };
  } catch (error) {
    await system.close(fd);
    throw error;
  }
}

/** How one of the files that are full ends. */
async function endOfOld(ground: Directory, name: string): Promise<LogEnd> {
  const there = await openThere(ground, name, READ_FLAGS);
  if (there === undefined) return NO_LINES;
  try {
    const end = await readLogEnd(ground.system, there.fd, there.bytes);
    if (end.wholeBytes !== there.bytes || end.seq === 0) throw new BrokenChain(`${name} does not end with a whole line`);
    return end;
  } finally {
    await ground.system.close(there.fd);
  }
}

/**
 * Where the log goes on whose last file ends like this. A file may have been begun shortly before a crash: what its lines do not
 * tell, such as the key that signs, the ones before it do.
 */
async function wholeEnd(ground: Directory, last: LogEnd): Promise<LogEnd> {
  const names = (await ground.system.readdir(ground.directory)).filter((name) => OLD_LOG.test(name)).sort();
  let end = last;
  for (let name = names.pop(); name !== undefined && end.checkpointSeq === 0; name = names.pop()) {
    const old = await endOfOld(ground, name);
    end = {
      seq: end.seq || old.seq,
      hash: end.seq === 0 ? old.hash : end.hash,
      generation: Math.max(end.generation, old.generation),
      checkpointSeq: old.checkpointSeq,
      signingKey: end.signingKey || old.signingKey,
      wholeBytes: last.wholeBytes,
    };
  }
  return end;
}

/** Of this moment, or the first one after it that nothing is named by: a rename would put one piece in the place of another. */
function tornName(names: readonly string[]): string {
  for (let time = Date.now(); ; time += 1) {
    const name = `${LOG_NAME}.torn-${new Date(time).toISOString().replaceAll(':', '-')}`;
    if (!names.some((one) => one.startsWith(name))) return name;
  }
}

/**
 * Moves what a crash has torn out of the log. Crash story: it is durable under its own name before the log is cut, and keeps the
 * name that says so until a line has recorded it.
 */
async function setAside(ground: Directory, fd: number, from: number, size: number): Promise<void> {
  const { system, directory, directoryFd } = ground;
  const name = `${tornName(await system.readdir(directory))}.unrecorded`;
  const aside = await makeFile(system, ground, name, CREATE_FLAGS);
  try {
    const piece = Buffer.alloc(PIECE_BYTES);
    for (let at = from; at < size; ) {
      const got = await system.pread(fd, piece, 0, at);
      if (got === 0) break;
      for (let written = 0; written < got; ) written += await system.write(aside, piece.subarray(0, got), written);
      at += got;
    }
    await system.fsync(aside);
  } finally {
    await system.close(aside);
  }
  await system.fsync(directoryFd);
  await system.ftruncate(fd, from);
  await system.fsync(fd);
}

async function tornIn({ system, directory }: Directory): Promise<Torn[]> {
  const torn: Torn[] = [];
  for (const name of (await system.readdir(directory)).filter((one) => UNRECORDED.test(one)).sort()) {
    const fd = await system.open(join(directory, name), READ_FLAGS, 0);
    try {
      const hash = createHash('sha256');
      const piece = Buffer.alloc(PIECE_BYTES);
      let bytes = 0;
      for (let got = -1; got !== 0; bytes += got) {
        got = await system.pread(fd, piece, 0, bytes);
        hash.update(piece.subarray(0, got));
      }
      torn.push({ bytes, sha256: hash.digest('hex'), file: name.slice(0, -'.unrecorded'.length) });
    } finally {
      await system.close(fd);
    }
  }
  return torn;
}

async function openDirectory(system: FileSystem, directory: string): Promise<Directory> {
  const directoryFd = await system.open(directory, DIRECTORY_FLAGS, 0);
  const owner = ownerToKeep(system, await system.fstat(directoryFd));
  return { system, directory, directoryFd, owner };
}

interface Found {
  fd: number;
  bytes: number;
  end: LogEnd;
}

/** The log, made if there is none, cut to its whole lines. */
async function openLog(ground: Directory): Promise<Found> {
  const { system } = ground;
  const there = await openThere(ground, LOG_NAME, APPEND_FLAGS);
  if (there === undefined) {
    const end = await wholeEnd(ground, NO_LINES);
    const fd = await makeFile(system, ground, LOG_NAME, NEW_LOG_FLAGS);
    await system.fsync(ground.directoryFd);
    return { fd, bytes: 0, end };
  }
  try {
    const end = await readLogEnd(system, there.fd, there.bytes);
    if (end.wholeBytes < there.bytes) await setAside(ground, there.fd, end.wholeBytes, there.bytes);
    // A name that was never synced must not go with the next crash.
    await system.fsync(there.fd);
    await system.fsync(ground.directoryFd);
    return { fd: there.fd, bytes: end.wholeBytes, end: await wholeEnd(ground, end) };
  } catch (error) {
    await system.close(there.fd);
    throw error;
  }
}

/**
 * The log where it can be gone on with: what no key at hand signs, or what does not follow, nobody could verify further, however
 * many lines came after it. The operator has said that another chain may begin then; the old one is kept beside it, whole.
 */
async function openOrBegin(ground: Directory, { mayBeginAnew, signers }: LogOptions): Promise<Found> {
  if (!mayBeginAnew) return await openLog(ground);
  try {
    const found = await openLog(ground);
    if (found.end.seq === 0 || signers.includes(found.end.signingKey)) return found;
    await ground.system.close(found.fd);
  } catch (error) {
    if (!(error instanceof BrokenChain)) throw error;
  }
  await setAllAside(ground);
  return await openLog(ground);
}

/**
 * Crash story: the newest file goes last, so that what is left is refused as it was before, or goes on to be set aside. Each
 * keeps the name that says so until a line has recorded it.
 */
async function setAllAside({ system, directory, directoryFd }: Directory): Promise<void> {
  const names = await system.readdir(directory);
  const aside = tornName(names);
  for (const name of names.filter((one) => OLD_LOG.test(one)).sort()) {
    await system.rename(join(directory, name), join(directory, `${aside}-${OLD_LOG.exec(name)?.[1]}.unrecorded`));
  }
  if (names.includes(LOG_NAME)) await system.rename(join(directory, LOG_NAME), join(directory, `${aside}.unrecorded`));
  await system.fsync(directoryFd);
}

/**
 * Opens the log of a data directory at its end. Throws AUDIT_UNAVAILABLE if it cannot be written, or if its last lines do not follow
 * each other and no other chain may begin.
 */
export async function openLogGround(system: FileSystem, dataDir: string, options: LogOptions): Promise<Ground> {
  let ground: Directory | undefined;
  try {
    ground = await openDirectory(system, dataDir);
    const { fd, bytes, end } = await openOrBegin(ground, options);
    const { directoryFd, owner } = ground;
    const firstSeq = bytes === 0 ? 0 : await firstSeqOf(system, fd);
    const file = new LogFile(
      system,
      { directory: dataDir, directoryFd, owner },
      { fd, bytes, firstSeq },
      options.maxFileBytes,
      options.onDurable,
    );
    const recorded = async ({ file: name }: Torn) => {
      await system.rename(join(dataDir, `${name}.unrecorded`), join(dataDir, name));
      await system.fsync(directoryFd);
    };
    return { file, end, torn: await tornIn(ground), recorded };
  } catch (error) {
    if (ground !== undefined) await system.close(ground.directoryFd).catch(() => undefined);
    throw refusal(error, dataDir);
  }
}

function refusal(error: unknown, dataDir: string): Error {
  if (error instanceof KmsError) return error;
  const log = join(dataDir, LOG_NAME);
  if (error instanceof BrokenChain) {
    return new KmsError(
      'AUDIT_UNAVAILABLE',
      `${log}: ${error.message}; \`progressdb-kms audit verify\` says where, --accept-rollback sets them aside`,
      { cause: error },
    );
  }
  const { syscall = 'open' } = error as NodeJS.ErrnoException;
  return new KmsError('AUDIT_UNAVAILABLE', `${log}: ${errnoOf(error) || 'failure'} at ${syscall}`, { cause: error });
}

async function firstSeqOf(system: FileSystem, fd: number): Promise<number> {
  const head = Buffer.alloc(40);
  const got = await system.pread(fd, head, 0, 0);
  return Number(/"seq":(\d+)/.exec(head.toString('latin1', 0, got))?.[1] ?? 0);
}
