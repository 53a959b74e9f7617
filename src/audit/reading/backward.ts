import type { FileHandle } from 'node:fs/promises';
import { KmsError } from '../../errors.js';
import { MAX_AUDIT_LINE_BYTES } from '../../limits.js';
import { nameOf, type OpenedFile } from './files.js';

const STEP_BYTES = 64 * 1024;
const LINE_FEED = 0x0a;

/** Lines of a log from its last one on backwards, without their line feeds; a torn end is left out. */
export async function* linesBackward(files: readonly OpenedFile[]): AsyncGenerator<Buffer> {
  for (const file of [...files].reverse()) yield* linesOf(file, (await file.handle.stat()).size);
}

async function* linesOf(file: OpenedFile, size: number): AsyncGenerator<Buffer> {
  let rest: Buffer = Buffer.alloc(0);
  let isEnd = true;
  for (let at = size; at > 0; ) {
    const from = Math.max(0, at - STEP_BYTES);
    const bytes = Buffer.concat([await readAt(file.handle, from, at - from), rest]);
    at = from;
    let end = bytes.length;
    for (let feed = bytes.lastIndexOf(LINE_FEED); feed >= 0; feed = feed > 0 ? bytes.lastIndexOf(LINE_FEED, feed - 1) : -1) {
      if (!isEnd) yield bytes.subarray(feed + 1, end);
      isEnd = false;
      end = feed;
    }
    rest = bytes.subarray(0, end);
    if (rest.length > MAX_AUDIT_LINE_BYTES && !isEnd) {
      throw new KmsError('INVALID_ARGUMENT', `${nameOf(file)} has longer lines than an audit log`);
    }
  }
  if (!isEnd) yield rest;
}

/** Fewer bytes only where the file became shorter. */
export async function readAt(handle: FileHandle, from: number, length: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(length);
  let filled = 0;
  while (filled < length) {
    const { bytesRead } = await handle.read(bytes, filled, length - filled, from + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return bytes.subarray(0, filled);
}
