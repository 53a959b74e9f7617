import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { join } from 'node:path';
import { errnoOf, type FileSystem } from '../store/file-system.js';
import type { AuditHead } from './format.js';

const LOG = 'kms-audit.log';
/** The log in use, the ones before it, and what crashes have torn off: not the reserve, which is only room. */
const FILES = /^kms-audit(\.log|-\d{16}\.log|\.log\.torn-.{1,64})$/;
const EARLIER = /^kms-audit-\d{16}\.log$/;
/** Longer than the lines between two checkpoints are, as a rule. */
const WINDOW_BYTES = 1024 * 1024;
const LINE_FEED = 0x0a;

/** The names of a directory's audit log, the one in use first if there is one. */
export async function auditFiles(system: FileSystem, dataDir: string): Promise<string[]> {
  const names = (await namesIn(system, dataDir)).filter((name) => FILES.test(name));
  return names.sort((a, b) => Number(b === LOG) - Number(a === LOG) || (a < b ? -1 : 1));
}

async function namesIn(system: FileSystem, path: string): Promise<string[]> {
  try {
    return await system.readdir(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return [];
    throw error;
  }
}

export interface AuditEnd extends AuditHead {
  /** The highest of the keyring that the last lines tell of; 0 for none. */
  generation: number;
}

/** How far the audit log of a directory is, undefined if it has no line. */
export async function auditEndOf(system: FileSystem, dataDir: string): Promise<AuditEnd | undefined> {
  const names = await auditFiles(system, dataDir);
  // One that has just been begun has no line yet: then the one before has the last.
  const newest = [...names.filter((name) => name === LOG), ...names.filter((name) => EARLIER.test(name)).reverse()];
  for (const name of newest) {
    const end = endIn(await tailOf(system, join(dataDir, name)));
    if (end !== undefined) return end;
  }
  return undefined;
}

/** The last bytes of a file that may be written to meanwhile. */
async function tailOf(system: FileSystem, path: string): Promise<Buffer> {
  const fd = await system.open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK, 0);
  try {
    let kept = Buffer.alloc(0);
    for (;;) {
      const more = Buffer.alloc(WINDOW_BYTES);
      const got = await system.read(fd, more, 0);
      if (got === 0) return kept;
      kept = Buffer.concat([kept, more.subarray(0, got)]).subarray(-WINDOW_BYTES);
    }
  } finally {
    await system.close(fd);
  }
}

function endIn(bytes: Buffer): AuditEnd | undefined {
  // After the last line feed there may be a line under way, or a torn one.
  const whole = bytes.subarray(0, bytes.lastIndexOf(LINE_FEED) + 1);
  const last = whole.subarray(whole.lastIndexOf(LINE_FEED, whole.length - 2) + 1, -1);
  const seq = /^\{"event":\{"seq":(\d{1,15}),/.exec(last.toString('latin1'))?.[1];
  if (seq === undefined) return undefined;
  const lines = whole.toString('utf8').split('\n');
  // A few members stand before the type, of bounded length.
  const checkpoint = lines.findLast((line) => line.slice(0, 300).includes('","type":"checkpoint",'));
  const generations = lines.map((line) => Number(/,"generation":(\d{1,15})[,}]/.exec(line)?.[1] ?? 0));
  return {
    seq: Number(seq),
    sha256: createHash('sha256').update(last).digest('hex'),
    checkpoint: checkpoint ?? null,
    generation: generations.reduce((most, one) => Math.max(most, one), 0),
  };
}
