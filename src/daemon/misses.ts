import { binding, DEFERRED, DEFERRED_FIELDS, FLAG, MAX_DEFERRED, NO_LIMIT, REPORT } from '../native.js';
import { advance, type Output, report, type Vault } from './walk.js';

/**
 * The frames of one chunk whose keys were missing. Where the store has records at hand their keys are brought in one step, and the
 * frames are served where they lie; copying each of them out and waiting for it costs more than all the rest.
 */
export class Misses {
  /** Entries as in a report. */
  private readonly listed = new Int32Array(DEFERRED_FIELDS * MAX_DEFERRED);

  /** Brings the missing keys and takes their frames out of the report, whose other frames stay in their order. Returns how many. */
  take(kms: Vault, input: Buffer): number {
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

  /** Serves the first `missing` of those that were taken. `onLeft` is called for what the report names as left again. */
  serve(kms: Vault, bits: number, actor: number, input: Buffer, missing: number, output: Output, onLeft: () => void): void {
    for (let from = 0; from < missing; ) {
      // They were counted, and there was room for them, when they were left.
      report[REPORT.units] = NO_LIMIT;
      binding.serveListed(kms.space, bits, actor, input, from, missing, output.room(), report, this.listed);
      const next = report[REPORT.consumed]!;
      const flags = advance(kms, output);
      onLeft();
      if (next < missing && next === from) throw new Error('the native core makes no progress');
      if ((flags & FLAG.outputFull) !== 0) output.flush();
      from = next;
    }
  }
}
