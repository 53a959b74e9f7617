import { closeSync, constants, fstatSync, openSync, writeFileSync } from 'node:fs';
import { type LoggerOptions, pino } from 'pino';
import { asKmsError, KmsError } from '../errors.js';

export type Level = 'debug' | 'info' | 'warn' | 'error';
export type Fields = Record<string, string | number | boolean | null | undefined>;
/** One event. Fields never hold content (plaintext, ciphertext, AAD, wrapped keys) or key material. */
export type Log = (level: Level, event: string, fields?: Fields) => void;

/**
 * One JSON line per event of at least `least` to `write`, which has it when the call returns: the line that says why a process ends
 * must not be lost with it.
 */
export function jsonLog(least: Level = 'info', write: (line: string) => void = toStandardError): Log {
  const options: LoggerOptions = {
    level: least,
    // Neither pid nor host: the collector knows them, and `listening` says the one that counts.
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (level) => ({ level }) },
  };
  const logger = pino(options, { write });
  return (level, event, fields) => logger[level]({ event, ...fields });
}

/** Whoever reads it may be gone, or its disk full; that ends no service. */
function toStandardError(line: string): void {
  try {
    process.stderr.write(line);
  } catch {
    // There is nobody left to tell.
  }
}

const { O_APPEND, O_CREAT, O_NOCTTY, O_NOFOLLOW, O_NONBLOCK, O_WRONLY } = constants;

/** Neither what a link points to nor a pipe that nobody reads; and nobody else's file, who could cut it. */
function openLogFile(path: string): number {
  let fd: number;
  try {
    fd = openSync(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0o600);
  } catch (cause) {
    const { code = 'failure' } = cause as NodeJS.ErrnoException;
    throw new KmsError('INVALID_ARGUMENT', `the log file ${path} cannot be opened: ${code}`, { cause });
  }
  const status = fstatSync(fd);
  const isOurs = status.uid === process.geteuid?.() || status.uid === 0;
  if (status.isFile() && isOurs) return fd;
  closeSync(fd);
  throw new KmsError('INVALID_ARGUMENT', `the log file ${path} is ${isOurs ? 'not a regular file' : 'owned by another user'}`);
}

export interface LogTarget {
  /** Undefined for standard error. */
  logFile: string | undefined;
  logLevel: Level;
}

/** The daemon's log. Its target can be replaced while it is in use: the same file again after a rotation, or another level. */
export class Journal {
  private fd: number | undefined;
  private write: Log;

  /** Throws if the file cannot be had. */
  constructor({ logFile, logLevel }: LogTarget) {
    this.fd = logFile === undefined ? undefined : openLogFile(logFile);
    this.write = jsonLog(logLevel, (line) => this.put(line));
  }

  readonly log: Log = (level, event, fields) => this.write(level, event, fields);

  /** If the new file cannot be had, it throws and the old one stays. */
  replace({ logFile, logLevel }: LogTarget): void {
    const fd = logFile === undefined ? undefined : openLogFile(logFile);
    this.close();
    this.fd = fd;
    this.write = jsonLog(logLevel, (line) => this.put(line));
  }

  /** What is said afterwards goes to standard error. */
  close(): void {
    if (this.fd !== undefined) closeSync(this.fd);
    this.fd = undefined;
  }

  /** A full disk must neither end the service nor hide why: such a line is said on standard error. */
  private put(line: string): void {
    if (this.fd === undefined) {
      toStandardError(line);
      return;
    }
    try {
      writeFileSync(this.fd, line);
    } catch {
      toStandardError(line);
    }
  }
}

/** What an operator needs of an error. Only here does an INTERNAL's cause appear: peers get the code and its text. */
export function errorFields(error: unknown): Fields {
  const known = asKmsError(error);
  const { cause } = known;
  return { code: known.code, message: known.message, cause: cause instanceof Error ? (cause.stack ?? cause.message) : undefined };
}

/** Single lines of one event up to this many a second; the rest of the second is one line with their number. */
const SINGLE_LINES = 10;

/** An event that a peer can cause at will: it must not be able to fill the disk with it. `turn` is called once a second. */
export class Burst {
  private lines = 0;
  private swallowed = 0;

  constructor(
    private readonly log: Log,
    private readonly level: Level,
    private readonly event: string,
  ) {}

  note(fields: () => Fields): void {
    if (++this.lines <= SINGLE_LINES) this.log(this.level, this.event, fields());
    else this.swallowed++;
  }

  turn(): void {
    if (this.swallowed > 0) this.log(this.level, this.event, { more: this.swallowed });
    this.lines = 0;
    this.swallowed = 0;
  }
}
