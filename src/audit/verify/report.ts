/** Where a line stands, for people. */
export interface Place {
  file: string;
  /** From 1, in its file. */
  line: number;
  seq: number;
}

/** The first line that is wrong. */
export interface Fault extends Place {
  what: string;
}

/** A start with an older keyring than a line before it had: somebody put that back. */
export interface Rollback extends Place {
  from: number;
  to: number;
}

/** What a log was found to be. */
export interface Report {
  /** Nothing is wrong, and no rollback is there that was not accepted. */
  ok: boolean;
  /** Those before the first that is wrong, all of them if none is. */
  lines: number;
  firstSeq: number;
  lastSeq: number;
  storeId: string;
  /** Starts. */
  epochs: number;
  checkpoints: number;
  /** Lines up to the last good signature: whoever changes them needs a key that is gone. */
  signedLines: number;
  /** Lines behind it: chained, so that damage shows, but whoever can write the file could have made them. */
  unsignedLines: number;
  /** Lines whose `sig` was checked with the auditor's key, and those of epochs that were not sealed to it. */
  sigsChecked: number;
  sigsUnchecked: number;
  /** Signs the next line, in base64. */
  signingKey: string;
  /** Anchored lines that were found where they belong. */
  anchors: number;
  rollbacks: number;
  /** The first of them. */
  rollbacksAt: Rollback[];
  fault: Fault | null;
}
