import { binding, doorbell, FLAG, NO_LIMIT, REPORT, REPORT_LENGTH, type Space } from '../native.js';

/** Whose keys the native core uses, and what is to be known of them. */
export interface Vault {
  readonly space: Space;
  readonly sealed: boolean;
  /** Whether data operations are refused because the log cannot be written. */
  readonly refusesData: boolean;
  answerDoorbell(): void;
}

/** Where answers are written to. */
export interface Output {
  room(): Uint8Array;
  advance(bytes: number, secret: boolean, untold: boolean): void;
}

/** One report for all walks of the thread: it is read before anything else can run. */
export const report = new Int32Array(REPORT_LENGTH);

/** One native call for the frames of `input[start, end)`, for `room` requests; its findings are in `report`, of which the flags are returned. */
export function walk(
  vault: Vault,
  bits: number,
  actor: number,
  input: Uint8Array,
  start: number,
  end: number,
  room: number,
  output: Output,
): number {
  report[REPORT.units] = room;
  binding.serveChunk(vault.space, bits, actor, input, start, end, output.room(), report);
  return taken(vault, output);
}

/** The same for the frames from `from` to `to` of those that an earlier walk over `input` has left: they were counted then. */
export function walkListed(
  vault: Vault,
  bits: number,
  actor: number,
  input: Uint8Array,
  from: number,
  to: number,
  output: Output,
  listed: Int32Array,
): number {
  report[REPORT.units] = NO_LIMIT;
  binding.serveListed(vault.space, bits, actor, input, from, to, output.room(), report, listed);
  return taken(vault, output);
}

function taken(vault: Vault, output: Output): number {
  const flags = report[REPORT.flags]!;
  // While the log refuses them nothing was done, and that is what is answered.
  output.advance(report[REPORT.written]!, (flags & FLAG.plaintextWritten) !== 0, !vault.refusesData);
  if (doorbell[0] !== 0 || doorbell[1] !== 0) vault.answerDoorbell();
  return flags;
}
