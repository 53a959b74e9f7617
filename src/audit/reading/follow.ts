import { stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { AUDIT_READ_BYTES } from '../../limits.js';
import { readAt } from './backward.js';
import { closeLog, firstSeqOf, type OpenedFile, openLog } from './files.js';

const LOOK_MS = 200;
const LINE_FEED = 0x0a;
const SEQ = /^\{"event":\{"seq":(\d{1,16}),/;

/** `seq` of a line, by its beginning; undefined if it has none. */
export function seqOf(line: Buffer): number | undefined {
  const found = SEQ.exec(line.toString('latin1', 0, 40));
  return found === null ? undefined : Number(found[1]);
}

/**
 * The lines that come after line `seq`, without their line feeds, as they are written, also into the files that follow, until
 * `isEnded`. `path` is a directory or a file.
 */
export async function* linesAfter(path: string, seq: number, isEnded: () => boolean): AsyncGenerator<Buffer> {
  let last = seq;
  while (!isEnded()) {
    const files = await openLog([path]);
    try {
      for (const [index, file] of files.entries()) {
        const next = files[index + 1];
        // All its lines were seen if the next file begins no later than where we are.
        if (next !== undefined && firstSeqOf(next) <= last + 1) continue;
        for await (const line of followed(file, isWritten(file), isEnded)) {
          const own = seqOf(line);
          if (own !== undefined && own <= last) continue;
          last = own ?? last;
          yield line;
        }
      }
    } finally {
      await closeLog(files);
    }
    await sleep(LOOK_MS);
  }
}

/** Not one that has become long already, after which there is none for a moment. */
function isWritten(file: OpenedFile): boolean {
  return firstSeqOf(file) === Number.POSITIVE_INFINITY;
}

/** Its lines; of the file that is written, until another one stands in its place. */
async function* followed(file: OpenedFile, isLast: boolean, isEnded: () => boolean): AsyncGenerator<Buffer> {
  let rest: Buffer = Buffer.alloc(0);
  let wasReplaced = false;
  for (let at = 0; ; ) {
    const bytes = await readAt(file.handle, at, AUDIT_READ_BYTES);
    at += bytes.length;
    rest = Buffer.concat([rest, bytes]);
    for (let feed = rest.indexOf(LINE_FEED); feed >= 0; feed = rest.indexOf(LINE_FEED)) {
      yield rest.subarray(0, feed);
      rest = rest.subarray(feed + 1);
    }
    if (bytes.length > 0) continue;
    // What was written before it was replaced is read once more after that was seen.
    if (!isLast || wasReplaced || isEnded()) return;
    wasReplaced = await isReplaced(file);
    if (!wasReplaced) await sleep(LOOK_MS);
  }
}

async function isReplaced({ path, handle }: OpenedFile): Promise<boolean> {
  try {
    return (await stat(path)).ino !== (await handle.stat()).ino;
  } catch (error) {
    // Between two files there is none for a moment.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}
