import { join } from 'node:path';
import { KmsError } from '../errors.js';
import { AUDIT_RESERVE_BYTES } from '../limits.js';
import { FILE_MODE, type Owner } from '../store/data-directory.js';
import { type Appended, CREATE_FLAGS, errnoOf, type FileSystem, NEW_LOG_FLAGS } from '../store/file-system.js';

export const LOG_NAME = 'kms-audit.log';
export const RESERVE_NAME = 'kms-audit.reserve';

/** A file that has become long, by the first line in it. */
export function oldLogName(firstSeq: number): string {
  return `kms-audit-${String(firstSeq).padStart(16, '0')}.log`;
}

const LINE_FEED = 0x0a;

interface Fault {
  /** After `lost` nothing is written any more; `full` ends when there is space again. */
  kind: 'lost' | 'full';
  reason: string;
}

interface Waiter {
  resolve(): void;
  reject(error: Error): void;
}

interface Place {
  directory: string;
  directoryFd: number;
  owner: Owner | undefined;
}

/** A log file that is open at its end. */
export interface OpenFile {
  fd: number;
  bytes: number;
  /** Of its first line, 0 while it has none. */
  firstSeq: number;
}

/** Makes a file in the directory; its name is durable after the next sync of that. */
export async function makeFile(system: FileSystem, { directory, owner }: Place, name: string, flags: number): Promise<number> {
  const fd = await system.open(join(directory, name), flags, FILE_MODE);
  if (owner !== undefined) await system.fchown(fd, owner.uid, owner.gid);
  return fd;
}

/** Copying what is long costs more than another system call. */
const JOINED_BYTES = 16 * 1024;

function joined(lines: readonly Uint8Array[]): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  let short: Uint8Array[] = [];
  const end = () => {
    if (short.length > 0) pieces.push(short.length === 1 ? (short[0] as Uint8Array) : Buffer.concat(short));
    short = [];
  };
  for (const bytes of lines) {
    if (bytes.length < JOINED_BYTES) short.push(bytes);
    else {
      end();
      pieces.push(bytes);
    }
  }
  end();
  return pieces;
}

function seqOf(line: Uint8Array): number {
  return Number(/"seq":(\d+)/.exec(Buffer.from(line.buffer, line.byteOffset, Math.min(40, line.length)).toString('latin1'))?.[1]);
}

/**
 * The end of the log: lines are appended in the order they are given, many of them with one fsync. Crash story: a line is whole and
 * durable before anybody who waits for it hears so; what a crash leaves of others is a beginning, which the next start sets aside.
 * A long file is renamed before the next one is made, so that a crash between the two leaves no log, and the newest old
 * one says where it goes on. On a full disk the reserve is given up for the lines that are on their way, and no
 * more operations are begun (`fault`) until it can be had again.
 */
export class LogFile {
  readonly #system: FileSystem;
  readonly #place: Place;
  readonly #maxBytes: number;
  readonly #onDurable: (lines: Uint8Array) => void;
  #file: OpenFile;
  #queue: Uint8Array[] = [];
  #waiting: Waiter[] = [];
  #isRunning = false;
  #fault: Fault | null = null;
  #hasReserve = false;
  /** The file ends within a line: the rest of it must follow there, however long the file is. */
  #endsWithinLine = false;
  /** What a full disk took of a round before it was full: told as durable with the rest, so that whole lines are told. */
  #untold: Uint8Array[] = [];
  #reserving: Promise<void> | undefined;
  #waitingBytes = 0;
  #closing: Promise<void> | undefined;

  constructor(system: FileSystem, place: Place, file: OpenFile, maxBytes: number, onDurable: (lines: Uint8Array) => void) {
    this.#system = system;
    this.#place = place;
    this.#file = file;
    this.#maxBytes = maxBytes;
    this.#onDurable = onDurable;
  }

  get fault(): string | null {
    return this.#fault?.reason ?? null;
  }

  /** Of lines that are not durable yet. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  refuseIfFailed(): void {
    if (this.#fault !== null) throw new KmsError('AUDIT_UNAVAILABLE', this.#fault.reason);
  }

  /** In the order of the calls. */
  append(lines: Uint8Array): void {
    if (lines.length === 0 || this.#fault?.kind === 'lost') return;
    this.#queue.push(lines);
    this.#waitingBytes += lines.length;
  }

  /** Resolves when all that was appended so far is durable. AUDIT_UNAVAILABLE if it may not be. */
  flush(): Promise<void> {
    if (this.#queue.length === 0 && !this.#isRunning) {
      return this.#fault?.kind === 'lost' ? Promise.reject(this.#refusal()) : Promise.resolve();
    }
    const written = new Promise<void>((resolve, reject) => this.#waiting.push({ resolve, reject }));
    if (!this.#isRunning) void this.#run();
    return written;
  }

  /** Rounds, each with one append, until nobody waits any more. Never rejects. */
  async #run(): Promise<void> {
    this.#isRunning = true;
    // Lines of one turn come in a row: begun with the first of them, a round would have the others wait for the next one.
    await new Promise<void>((resolve) => process.nextTick(resolve));
    while (this.#waiting.length > 0) {
      const [lines, waiting] = [this.#queue, this.#waiting];
      this.#queue = [];
      this.#waiting = [];
      try {
        await this.#write(lines);
        for (const { resolve } of waiting) resolve();
      } catch {
        for (const { reject } of waiting) reject(this.#refusal());
      }
    }
    this.#isRunning = false;
  }

  #refusal(): KmsError {
    return new KmsError('AUDIT_UNAVAILABLE', this.#fault?.reason ?? 'the audit log is closed');
  }

  async #write(lines: Uint8Array[]): Promise<void> {
    if (this.#fault?.kind === 'lost') throw this.#refusal();
    // Those before have been synced. Nothing is begun: whoever waits with this one may be closing the file.
    if (lines.length === 0) return;
    if (this.#file.bytes > this.#maxBytes && !this.#endsWithinLine) await this.#guard(() => this.#beginNext());
    const pieces = joined(lines);
    if (this.#file.firstSeq === 0) this.#file.firstSeq = seqOf(pieces[0] as Uint8Array);
    let isInPlace = true;
    for (const [index, bytes] of pieces.entries()) {
      const put = await this.#put(bytes, index === pieces.length - 1);
      isInPlace = put.isInPlace;
      if (put.written === bytes.length) continue;
      // The next lines go on where these were cut: the chain has them made already.
      this.#queue.unshift(bytes.subarray(put.written), ...pieces.slice(index + 1));
      this.#untold.push(...pieces.slice(0, index));
      // A copy of what was written: the rest is not to be held as well, nor anything for each attempt on a disk that stays full.
      if (put.written > 0) this.#untold.push(Uint8Array.from(bytes.subarray(0, put.written)));
      throw this.#refusal();
    }
    this.#tell(pieces);
    if (isInPlace) return;
    // What is written to a file that somebody has removed or renamed is in no log: the next start would not find it.
    this.#fault = { kind: 'lost', reason: `the audit log: ${this.#path} was removed or replaced; put it back and start again` };
    throw this.#refusal();
  }

  #tell(pieces: readonly Uint8Array[]): void {
    const whole = this.#untold.length === 0 ? pieces : [Buffer.concat([...this.#untold, ...pieces])];
    this.#untold = [];
    for (const bytes of whole) this.#onDurable(bytes);
  }

  /** The last piece takes those before it to the disk. How far it came: to its end, unless there is no space. */
  async #put(bytes: Uint8Array, isLast: boolean): Promise<Appended> {
    let at = 0;
    for (;;) {
      const { written, error, isInPlace } = await this.#step(bytes.subarray(at), isLast);
      if (written > 0) this.#advance(bytes, at, written);
      at += written;
      if (error === undefined && at === bytes.length) return { written: at, isInPlace };
      if (error === undefined) continue;
      if (at === bytes.length) throw this.#lost(error);
      if (!(await this.#makeSpace(error))) return { written: at, isInPlace };
    }
  }

  async #step(bytes: Uint8Array, isLast: boolean): Promise<Appended> {
    try {
      if (isLast) return await this.#system.append(this.#file.fd, bytes, this.#path);
      return { written: await this.#system.write(this.#file.fd, bytes, 0), isInPlace: true };
    } catch (error) {
      return { written: 0, error: error as NodeJS.ErrnoException, isInPlace: true };
    }
  }

  #advance(bytes: Uint8Array, at: number, written: number): void {
    this.#file.bytes += written;
    this.#waitingBytes -= written;
    this.#endsWithinLine = bytes[at + written - 1] !== LINE_FEED;
  }

  get #path(): string {
    return join(this.#place.directory, LOG_NAME);
  }

  /** A step after whose failure nobody knows what the disk has. */
  async #guard(step: () => Promise<void>): Promise<void> {
    try {
      await step();
    } catch (error) {
      throw this.#lost(error);
    }
  }

  #lost(error: unknown): unknown {
    const { syscall = 'write' } = error as NodeJS.ErrnoException;
    this.#fault = {
      kind: 'lost',
      reason: `the audit log: ${errnoOf(error) || 'failure'} at ${syscall}; start again on a sound disk`,
    };
    return error;
  }

  /** After a failed write: whether to try again. */
  async #makeSpace(error: unknown): Promise<boolean> {
    const errno = errnoOf(error);
    if (errno !== 'ENOSPC' && errno !== 'EDQUOT') {
      this.#lost(error);
      return false;
    }
    this.#fault = { kind: 'full', reason: `the audit log: no space left (${errno}); operations resume once there is` };
    if (!this.#hasReserve) return false;
    this.#hasReserve = false;
    await this.#guard(() => this.#removeReserve());
    return true;
  }

  /** An operator who was short of space may have been there before. */
  async #removeReserve(): Promise<void> {
    await this.#system.unlink(join(this.#place.directory, RESERVE_NAME)).catch((error) => {
      if (errnoOf(error) !== 'ENOENT') throw error;
    });
  }

  /**
   * Sets the reserve aside, unless it is; that it can be had is what ends a full disk's fault. One attempt at a time: of two, one
   * would remove the other's file.
   */
  reserve(): Promise<void> {
    if (this.#hasReserve || this.#fault?.kind === 'lost') return Promise.resolve();
    this.#reserving ??= this.#setAside().finally(() => {
      this.#reserving = undefined;
    });
    return this.#reserving;
  }

  async #setAside(): Promise<void> {
    let fd: number | undefined;
    try {
      await this.#removeReserve();
      fd = await makeFile(this.#system, this.#place, RESERVE_NAME, CREATE_FLAGS);
      const zeros = new Uint8Array(AUDIT_RESERVE_BYTES);
      for (let at = 0; at < zeros.length; ) at += await this.#system.write(fd, zeros, at);
      // Blocks that are only promised would not be there when they are wanted.
      await this.#system.fsync(fd);
      // Whatever it says, there is no descriptor to be closed afterwards.
      const written = fd;
      fd = undefined;
      await this.#system.close(written);
      this.#hasReserve = true;
      this.#fault = null;
    } catch (error) {
      if (fd !== undefined) await this.#system.close(fd).catch(() => undefined);
      await this.#removeReserve().catch(() => undefined);
      this.#fault ??= { kind: 'full', reason: `the audit log: no reserve can be set aside (${errnoOf(error) || 'failure'})` };
    }
  }

  async #beginNext(): Promise<void> {
    const { directory, directoryFd } = this.#place;
    // A full disk may have ended the last round before its sync: the lines before a durable one are durable.
    await this.#system.fsync(this.#file.fd);
    await this.#system.rename(this.#path, join(directory, oldLogName(this.#file.firstSeq)));
    await this.#system.fsync(directoryFd);
    const fd = await makeFile(this.#system, this.#place, LOG_NAME, NEW_LOG_FLAGS);
    await this.#system.fsync(directoryFd);
    const before = this.#file.fd;
    // First: a descriptor whose close has failed is closed all the same, and its number may be another file's by the next one.
    this.#file = { fd, bytes: 0, firstSeq: 0 };
    await this.#system.close(before);
  }

  /** What is appended is written before. Never rejects: a failure to close has nothing more to tell. Again it is the same close. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await this.flush().catch(() => undefined);
    await this.#system.close(this.#file.fd).catch(() => undefined);
    await this.#system.close(this.#place.directoryFd).catch(() => undefined);
  }
}
