import { setTimeout as sleep } from 'node:timers/promises';
import { AUDIT_READ_BYTES, MAX_AUDIT_LINE_BYTES } from '../../limits.js';
import { nameOf, type OpenedFile } from '../reading/files.js';
import { Chain, type ChainOptions } from './chain.js';
import type { Fault, Report } from './report.js';

const LINE_FEED = 0x0a;
/** How long the rest of a last line is waited for: a daemon may be in the middle of its write. */
const REST_LOOKS = 5;
const REST_LOOK_MS = 50;

/**
 * Verifies a log, given as its files in order, in one pass and in memory that does not depend on its length. It ends at the first
 * line that is wrong. `onRead` is told of bytes as they are read. Throws only what reading throws.
 */
export async function verifyLog(
  files: readonly OpenedFile[],
  options: ChainOptions,
  onRead: (bytes: number) => void = () => {},
): Promise<Report> {
  const chain = new Chain(options);
  const buffer = Buffer.allocUnsafeSlow(AUDIT_READ_BYTES + MAX_AUDIT_LINE_BYTES);
  try {
    let fault: Fault | undefined;
    for (const file of files) {
      fault = await verifyFile(file, chain, buffer, file === files.at(-1), onRead);
      if (fault !== undefined) break;
    }
    return chain.report(fault ?? chain.end());
  } finally {
    chain.close();
  }
}

async function verifyFile(
  file: OpenedFile,
  chain: Chain,
  buffer: Buffer,
  isLast: boolean,
  onRead: (bytes: number) => void,
): Promise<Fault | undefined> {
  const name = nameOf(file);
  let line = 1;
  let held = 0;
  let looks = 0;
  for (let position = 0; ; ) {
    const { bytesRead } = await file.handle.read(buffer, held, AUDIT_READ_BYTES, position);
    position += bytesRead;
    onRead(bytesRead);
    if (bytesRead === 0) {
      if (held === 0) return undefined;
      if (isLast && looks++ < REST_LOOKS) {
        await sleep(REST_LOOK_MS);
        continue;
      }
      return chain.torn(name, line);
    }
    const filled = held + bytesRead;
    let from = 0;
    for (let end = buffer.indexOf(LINE_FEED); end >= 0 && end < filled; end = buffer.indexOf(LINE_FEED, from)) {
      const fault = chain.take(buffer, from, end, name, line++);
      if (fault !== undefined) return fault;
      from = end + 1;
    }
    held = filled - from;
    // So long a beginning is no line, whatever follows.
    if (held >= MAX_AUDIT_LINE_BYTES) return chain.take(buffer, from, filled, name, line);
    buffer.copyWithin(0, from, filled);
  }
}
