import { decode } from '@msgpack/msgpack';
import { binding, DEFERRED_FIELDS, FLAG, NO_LIMIT, REPORT, REPORT_LENGTH } from '../../dist/native.js';

export interface Walked {
  /** Answers in the order they were given, by another decoder than the product's. */
  answers: unknown[][];
  /** Bodies of the frames that were left to TypeScript, and why. */
  deferred: Array<{ body: Buffer; why: number }>;
  /** The walk ended at a frame that breaks the protocol. */
  broken: boolean;
  /** What was not consumed. */
  rest: Buffer;
  /** The chunks, after the walk over them. */
  wiped: Buffer;
  calls: number;
}

/** `stream` cut at these places, each in range and ascending. */
export function cut(stream: Uint8Array, places: readonly number[]): Buffer[] {
  const bounds = [0, ...places, stream.length];
  return bounds.slice(1).map((end, i) => Buffer.from(stream.subarray(bounds[i]!, end)));
}

function framesIn(bytes: Buffer): unknown[][] {
  const frames: unknown[][] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = at + 4 + bytes.readUInt32BE(at);
    if (end > bytes.length) throw new Error('an answer is cut short');
    frames.push(decode(bytes.subarray(at + 4, end)) as unknown[]);
    at = end;
  }
  return frames;
}

const OUTPUT_BYTES = 1 << 20;
/** Used by one walk after the other. */
const room = Buffer.alloc(OUTPUT_BYTES);
const report = new Int32Array(REPORT_LENGTH);

/** Feeds the chunks to the native parser as a connection does: what is unfinished goes before the next chunk. */
export function walk(space: number, bits: number, chunks: readonly Buffer[], outputBytes = OUTPUT_BYTES, actor = 0): Walked {
  const output = room.subarray(0, outputBytes);
  const answers: Buffer[] = [];
  const wiped: Buffer[] = [];
  const result: Walked = { answers: [], deferred: [], broken: false, rest: Buffer.alloc(0), wiped: Buffer.alloc(0), calls: 0 };
  for (const chunk of chunks) {
    if (result.broken) break;
    const input = Buffer.concat([result.rest, chunk]);
    let at = 0;
    for (;;) {
      report[REPORT.units] = NO_LIMIT;
      binding.serveChunk(space, bits, actor, input, at, input.length, output, report);
      result.calls += 1;
      answers.push(Buffer.from(output.subarray(0, report[REPORT.written]!)));
      for (let i = 0; i < report[REPORT.deferred]!; i += 1) {
        const field = REPORT.first + i * DEFERRED_FIELDS;
        const start = report[field]!;
        result.deferred.push({ body: Buffer.from(input.subarray(start, start + report[field + 1]!)), why: report[field + 2]! });
      }
      const next = report[REPORT.consumed]!;
      const flags = report[REPORT.flags]!;
      result.broken = (flags & FLAG.protocolError) !== 0;
      if ((flags & FLAG.outputFull) === 0 || result.broken) {
        at = next;
        break;
      }
      if (next === at) throw new Error('the walk makes no progress');
      at = next;
    }
    wiped.push(input.subarray(0, at));
    result.rest = Buffer.from(input.subarray(at));
  }
  result.answers = framesIn(Buffer.concat(answers));
  result.wiped = Buffer.concat(wiped);
  return result;
}
