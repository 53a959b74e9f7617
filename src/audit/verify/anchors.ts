import { readChecked } from '../../checked-file.js';
import { KmsError } from '../../errors.js';
import { MAX_ANCHOR_FILE_BYTES } from '../../limits.js';
import { LineScanner } from './scanner.js';

/**
 * The lines that `audit anchor` printed into a file, by their `seq`. INVALID_ARGUMENT for a file with anything else in it: an anchor
 * that was damaged must not be passed over.
 */
export function readAnchors(name: string, file: string): Map<number, Buffer> {
  const scanner = new LineScanner();
  const anchors = new Map<number, Buffer>();
  const bytes = readChecked(name, file, { isSecret: false, maxBytes: MAX_ANCHOR_FILE_BYTES });
  const refuse = (line: number, what: string) => {
    throw new KmsError('INVALID_ARGUMENT', `${name}: line ${line} of ${file}: ${what}`);
  };
  for (let from = 0, line = 1; from < bytes.length; line++) {
    const feed = bytes.indexOf('\n', from);
    const end = feed < 0 ? bytes.length : feed;
    const wrong = end > from ? scanner.scan(bytes, from, end) : undefined;
    if (wrong !== undefined) refuse(line, `no line of an audit log: ${wrong}`);
    if (end > from) {
      if (scanner.type !== 'checkpoint') refuse(line, 'no checkpoint');
      const before = anchors.get(scanner.seq);
      const own = bytes.subarray(from, end);
      if (before !== undefined && !before.equals(own)) refuse(line, `there is another line ${scanner.seq} before it`);
      anchors.set(scanner.seq, own);
    }
    from = end + 1;
  }
  if (anchors.size === 0) throw new KmsError('INVALID_ARGUMENT', `${name}: ${file} holds no anchor`);
  return anchors;
}
