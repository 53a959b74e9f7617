import { createHash } from 'node:crypto';
import { KmsError } from '../errors.js';
import { MAX_AUDIT_END_BYTES } from '../limits.js';
import type { FileSystem } from '../store/file-system.js';

const FIRST_WINDOW_BYTES = 256 * 1024;
const LINE_FEED = 0x0a;
const HEAD = /^\{"event":\{"seq":(\d{1,16}),"time":"[0-9TZ:.-]{24}","boot":"[0-9a-f]{16}","prev":"([0-9a-f]{64})","type":"/;

/** Where a log goes on. */
export interface LogEnd {
  /** Of the last line, 0 if there is none. */
  seq: number;
  /** SHA-256 of the last line. */
  hash: Uint8Array;
  /** The highest that the lines looked at tell of; 0 for none. */
  generation: number;
  /** Of the last checkpoint, 0 if there is none. */
  checkpointSeq: number;
  /** The key that signs the next line, in base64; '' if no line tells. */
  signingKey: string;
  /** Where whole lines end, in bytes: what follows is a write that a crash has torn. */
  wholeBytes: number;
}

export const NO_LINES: LogEnd = {
  seq: 0,
  hash: new Uint8Array(32),
  generation: 0,
  checkpointSeq: 0,
  signingKey: '',
  wholeBytes: 0,
};

/** What the lines say of each other does not fit: no crash does that. */
export class BrokenChain extends Error {
  override name = 'BrokenChain';
}

interface Line {
  /** Where it begins, in the bytes it was found in. */
  at: number;
  seq: number;
  prev: string;
  hash: Buffer;
  event: Record<string, unknown>;
}

function eventOf(text: string): Record<string, unknown> | undefined {
  try {
    const line: unknown = JSON.parse(text);
    const event = typeof line === 'object' && line !== null ? (line as { event?: unknown }).event : undefined;
    return typeof event === 'object' && event !== null ? (event as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function lineOf(bytes: Buffer, at: number, end: number): Line | undefined {
  const text = bytes.toString('utf8', at, end);
  const head = HEAD.exec(text);
  const event = head === null ? undefined : eventOf(text);
  if (head === null || event === undefined) return undefined;
  const hash = createHash('sha256').update(bytes.subarray(at, end)).digest();
  return { at, seq: Number(head[1]), prev: head[2] as string, hash, event };
}

/** The lines of `bytes` from `start` on, each following the one before; and where that ends. */
function linesFrom(bytes: Buffer, start: number): { lines: Line[]; end: number } {
  const lines: Line[] = [];
  let at = start;
  for (;;) {
    const end = bytes.indexOf(LINE_FEED, at);
    const line = end < 0 ? undefined : lineOf(bytes, at, end);
    const before = lines.at(-1);
    const follows = line !== undefined && (!before || (line.seq === before.seq + 1 && line.prev === before.hash.toString('hex')));
    if (!follows) return { lines, end: at };
    lines.push(line);
    at = end + 1;
  }
}

/**
 * A crash leaves a beginning of what was being written, or zeros where it was to stand: never a line that was finished and
 * does not fit. That one was put there, or something before it taken away.
 */
function refuseUnlessTorn(rest: Buffer): void {
  if (rest.length > 0 && rest.includes(LINE_FEED) && !rest.includes(0))
    throw new BrokenChain('its lines do not follow each other');
}

function endOf(lines: Line[], wholeBytes: number): LogEnd {
  const last = lines.at(-1);
  if (last === undefined) return { ...NO_LINES, wholeBytes };
  let signingKey = '';
  let checkpointSeq = 0;
  let generation = 0;
  for (const { seq, event } of lines) {
    if (event['type'] === 'checkpoint') checkpointSeq = seq;
    if (event['type'] === 'signing_key') signingKey = String(event['public']);
    else if (event['type'] === 'checkpoint' || event['type'] === 'start') signingKey = String(event['signing_key']);
    if (typeof event['generation'] === 'number') generation = Math.max(generation, event['generation']);
  }
  return { seq: last.seq, hash: last.hash, generation, checkpointSeq, signingKey, wholeBytes };
}

/**
 * Looks at the end of a log, as far back as to its last checkpoint. Throws BrokenChain if whole lines there do not follow each
 * other, AUDIT_UNAVAILABLE if there is no checkpoint where one must be.
 */
export async function readLogEnd(system: FileSystem, fd: number, size: number): Promise<LogEnd> {
  for (let window = FIRST_WINDOW_BYTES; ; window *= 4) {
    const from = Math.max(0, size - window);
    const bytes = await readAt(system, fd, from, size - from);
    // In the middle of the file the first line may have begun before.
    const start = from === 0 ? 0 : bytes.indexOf(LINE_FEED) + 1;
    const { lines, end } = linesFrom(bytes, start);
    const found = endOf(lines, from + end);
    if (found.checkpointSeq !== 0 || from === 0) {
      refuseUnlessTorn(bytes.subarray(end));
      return found;
    }
    if (window >= MAX_AUDIT_END_BYTES) throw new KmsError('AUDIT_UNAVAILABLE', 'the end of the audit log has no checkpoint');
  }
}

async function readAt(system: FileSystem, fd: number, from: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; ) {
    const got = await system.pread(fd, bytes, at, from + at);
    if (got === 0) return bytes.subarray(0, at);
    at += got;
  }
  return bytes;
}
