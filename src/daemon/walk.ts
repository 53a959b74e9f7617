import { binding, doorbell, FLAG, REPORT, REPORT_LENGTH, type Space } from '../native.js';

/** Whose keys the native core uses, and what is to be known of them. */
export interface Vault {
  readonly space: Space;
  readonly sealed: boolean;
  /** Whether data operations are refused because the log cannot be written. */
  readonly refusesData: boolean;
  answerDoorbell(): void;
  /** Whether `loadKeys` can bring any. */
  readonly hasRecordsAtHand: boolean;
  /** Brings keys in this step, as far as it can be. */
  loadKeys(keyIds: readonly string[]): void;
}

/** Where answers are written to. */
export interface Output {
  room(): Uint8Array;
  advance(bytes: number, secret: boolean, untold: boolean): void;
  flush(): void;
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
  return advance(vault, output);
}

/** Takes what the last native call has written. Returns the flags of its report. */
export function advance(vault: Vault, output: Output): number {
  const flags = report[REPORT.flags]!;
  // While the log refuses them nothing was done, and that is what is answered.
  output.advance(report[REPORT.written]!, (flags & FLAG.plaintextWritten) !== 0, !vault.refusesData);
  if (doorbell[0] !== 0 || doorbell[1] !== 0) vault.answerDoorbell();
  return flags;
}
