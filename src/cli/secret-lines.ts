import { MAX_SHARES_BYTES } from '../limits.js';
import { Failure } from './failure.js';

const LINE_FEED = 0x0a;
const RETURN = 0x0d;
const END_OF_TRANSMISSION = 0x04;
const INTERRUPT = 0x03;
const BACKSPACE = 0x08;
const DELETE = 0x7f;

/** Lines of standard input that are secrets: bytes that are wiped after use, not echoed where a person types them. */
export async function* secretLines(prompt: (number: number) => string): AsyncGenerator<Buffer> {
  const { stdin, stderr } = process;
  const isTerminal = stdin.isTTY === true;
  const line = Buffer.alloc(MAX_SHARES_BYTES);
  let length = 0;
  let number = 1;
  const take = () => {
    const taken = Buffer.from(line.subarray(0, length));
    line.fill(0, 0, length);
    length = 0;
    return taken;
  };
  if (isTerminal) {
    stdin.setRawMode(true);
    stderr.write(prompt(number));
  }
  try {
    for await (const chunk of stdin as AsyncIterable<Buffer>) {
      try {
        for (const byte of chunk) {
          if (byte === LINE_FEED || byte === RETURN) {
            if (isTerminal) stderr.write('\n');
            const taken = take();
            if (taken.length > 0) {
              number += 1;
              yield taken;
            } else if (isTerminal) return;
            if (isTerminal) stderr.write(prompt(number));
          } else if (isTerminal && byte === END_OF_TRANSMISSION) return;
          else if (isTerminal && byte === INTERRUPT) throw new Failure('USAGE', 'interrupted');
          else if (isTerminal && (byte === BACKSPACE || byte === DELETE)) length = Math.max(0, length - 1);
          else if (length === line.length) throw new Failure('USAGE', `a line of more than ${line.length} bytes is no share`);
          else line[length++] = byte;
        }
      } finally {
        // Whoever has enough lines leaves in the middle of one.
        chunk.fill(0);
      }
    }
    if (length > 0) yield take();
  } finally {
    line.fill(0);
    if (isTerminal) {
      stdin.setRawMode(false);
      stdin.pause();
    }
  }
}
