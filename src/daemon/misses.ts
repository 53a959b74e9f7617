import { binding, DEFERRED, DEFERRED_FIELDS, MAX_DEFERRED, REPORT } from '../native.js';

/** Who brings keys, some of them in one step. */
export interface Keys {
  readonly hasRecordsAtHand: boolean;
  loadKeys(keyIds: readonly string[]): void;
}

/**
 * The frames of one chunk whose keys were missing. Where the store has records at hand their keys are brought in one step, and the
 * frames are served where they lie; copying each of them out and waiting for it costs more than all the rest.
 */
export class Misses {
  /** Entries as in a report. */
  readonly listed = new Int32Array(DEFERRED_FIELDS * MAX_DEFERRED);

  /** Brings the missing keys and takes their frames out of the report, whose other frames stay in their order. Returns how many. */
  take(kms: Keys, input: Buffer, report: Int32Array): number {
    if (!kms.hasRecordsAtHand) return 0;
    const deferred = report[REPORT.deferred]!;
    let [missing, left] = [0, 0];
    for (let index = 0; index < deferred; index++) {
      const field = REPORT.first + index * DEFERRED_FIELDS;
      const isMissing = report[field + 2] === DEFERRED.notCached;
      const to = isMissing ? this.listed : report;
      const at = isMissing ? missing++ * DEFERRED_FIELDS : REPORT.first + left++ * DEFERRED_FIELDS;
      for (let part = 0; part < DEFERRED_FIELDS; part++) to[at + part] = report[field + part]!;
    }
    report[REPORT.deferred] = left;
    if (missing > 0) kms.loadKeys(binding.listedKeys(input, this.listed, missing));
    return missing;
  }
}
