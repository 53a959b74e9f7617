import { FORWARD_BATCH_BYTES, FORWARD_BATCH_LINES, FORWARD_QUEUE_BYTES, FORWARD_QUEUE_LINES } from '../../limits.js';

const LINE_FEED = 0x0a;
/** Places of lines that are gone are given back when there are so many. */
const GONE = 1_024;

/** Lines that wait, first in, first out; bounded, and what does not fit is not taken. */
export class LineQueue {
  #lines: Buffer[] = [];
  #first = 0;
  #bytes = 0;

  get length(): number {
    return this.#lines.length - this.#first;
  }

  /**
   * Takes whole lines, each with its line feed, and answers how many of them found no room. They are copied: the caller may use
   * the bytes again. What is newer is left out, so that what arrives is without a gap up to there; `seq` tells of the gap.
   */
  add(bytes: Uint8Array): number {
    const room = FORWARD_QUEUE_BYTES - this.#bytes >= bytes.length && this.length < FORWARD_QUEUE_LINES;
    // One copy of them all, made only where something of it stays.
    const lines = room ? Buffer.from(bytes) : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    let dropped = 0;
    for (let from = 0; from < lines.length; ) {
      const feed = lines.indexOf(LINE_FEED, from);
      const end = feed < 0 ? lines.length : feed;
      if (room && this.length < FORWARD_QUEUE_LINES) {
        this.#lines.push(lines.subarray(from, end));
        this.#bytes += end - from;
      } else dropped++;
      from = end + 1;
    }
    return dropped;
  }

  /** The next ones, which stay until they are `taken`. */
  batch(): Buffer[] {
    let bytes = 0;
    let end = this.#first;
    while (end < this.#lines.length && end - this.#first < FORWARD_BATCH_LINES) {
      bytes += (this.#lines[end] as Buffer).length;
      if (bytes > FORWARD_BATCH_BYTES) break;
      end++;
    }
    return this.#lines.slice(this.#first, end);
  }

  taken(count: number): void {
    for (let i = this.#first; i < this.#first + count; i++) this.#bytes -= (this.#lines[i] as Buffer).length;
    this.#first += count;
    if (this.#first < GONE && this.#first < this.#lines.length) return;
    this.#lines = this.#lines.slice(this.#first);
    this.#first = 0;
  }
}
