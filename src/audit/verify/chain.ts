import { MAX_NAMED_ROLLBACKS } from '../../limits.js';
import { sha256Hex } from './digest.js';
import type { AuditorKey, EpochKey } from './epoch-key.js';
import { faultOfOwn } from './own-members.js';
import type { Fault, Report, Rollback } from './report.js';
import { LineScanner } from './scanner.js';
import { SigningKeys } from './signature.js';

const FIRST_PREV = '0'.repeat(64);

export interface ChainOptions {
  /** What signs the first line, in base64: known from elsewhere, or whoever rewrites the log names a key of his own. */
  publicKey: string;
  auditorKey?: AuditorKey | undefined;
  /** Lines that were printed earlier, by their `seq`. */
  anchors?: ReadonlyMap<number, Buffer>;
  /** Lines that bring an older keyring back, which was meant. */
  acceptedRollbacks?: ReadonlySet<number>;
}

/** All that the lines so far have said. Copied, verification can begin again where the copy was made. */
export interface ChainState {
  lines: number;
  file: string;
  line: number;
  seq: number;
  firstSeq: number;
  hash: string;
  boot: string;
  storeId: string;
  signingKey: string;
  generation: number;
  epochs: number;
  checkpoints: number;
  checkpointSeq: number;
  signedLines: number;
  /** Of this epoch; undefined where nobody here can open it. */
  epochKey: EpochKey | undefined;
  sigsChecked: number;
  sigsUnchecked: number;
  anchors: number;
  rollbacks: number;
  refusedRollbacks: number;
  rollbacksAt: readonly Rollback[];
  /** A line that does not follow the one before it: which of the two is wrong, the next line tells. */
  doubt: Doubt | undefined;
}

interface Doubt {
  hash: string;
  before: Fault;
  itself: Fault;
}

export function beginning(publicKey: string): ChainState {
  return {
    lines: 0,
    file: '',
    line: 0,
    seq: 0,
    firstSeq: 0,
    hash: FIRST_PREV,
    boot: '',
    storeId: '',
    signingKey: publicKey,
    generation: 0,
    epochs: 0,
    checkpoints: 0,
    checkpointSeq: 0,
    signedLines: 0,
    epochKey: undefined,
    sigsChecked: 0,
    sigsUnchecked: 0,
    anchors: 0,
    rollbacks: 0,
    refusedRollbacks: 0,
    rollbacksAt: [],
    doubt: undefined,
  };
}

/** Follows a log from line to line, by docs/FORMATS.md, "Audit log". After the first fault it is at its end. */
export class Chain {
  readonly state: ChainState;
  readonly #options: ChainOptions;
  readonly #scanner = new LineScanner();
  readonly #keys = new SigningKeys();

  constructor(options: ChainOptions, state: ChainState = beginning(options.publicKey)) {
    this.#options = options;
    this.state = state;
  }

  /** Takes the line between `from` and `end`, without its line feed; answers what is wrong, undefined if nothing is, or not yet. */
  take(bytes: Buffer, from: number, end: number, file: string, line: number): Fault | undefined {
    const { state } = this;
    const scanner = this.#scanner;
    const fault = (what: string): Fault => ({ file, line, seq: state.seq + 1, what });
    const malformed = scanner.scan(bytes, from, end);
    if (state.doubt !== undefined) return this.#settled(state.doubt, malformed === undefined);
    if (malformed !== undefined) return fault(malformed);
    const wrong = this.#wrongOrder();
    if (wrong !== undefined) return fault(wrong);
    const anchor = this.#options.anchors?.get(scanner.seq);
    if (anchor !== undefined) {
      if (bytes.compare(anchor, 0, anchor.length, from, end) !== 0) return fault('it is not the line that was anchored');
      state.anchors++;
    }
    const hash = sha256Hex(bytes.subarray(from, end));
    if (scanner.prev !== state.hash) {
      return this.#unchained(bytes, hash, fault('its `prev` is not the hash of the line before'));
    }
    const unfit = this.#unfit(bytes, file, line);
    if (unfit !== undefined) return fault(unfit);
    if (state.lines === 0) state.firstSeq = scanner.seq;
    state.lines++;
    state.seq = scanner.seq;
    state.hash = hash;
    state.file = file;
    state.line = line;
    // Its own line and all before it are in what the signature is over.
    if (scanner.isSigned) state.signedLines = state.lines;
    return undefined;
  }

  /** The line has no end. */
  torn(file: string, line: number): Fault {
    const what = 'it has no end: a write was torn, or the file was cut';
    return this.state.doubt?.itself ?? { file, line, seq: this.state.seq + 1, what };
  }

  /** After the last line: what is wrong then. */
  end(): Fault | undefined {
    const { state } = this;
    if (state.doubt !== undefined) return state.doubt.itself;
    const fault = (what: string): Fault => ({ file: state.file, line: state.line, seq: state.seq, what });
    if (state.lines === 0) return fault('the log holds no line');
    const missing = [...(this.#options.anchors?.keys() ?? [])].filter((seq) => seq > state.seq || seq < state.firstSeq);
    if (missing.length === 0) return undefined;
    return fault(`the log ends here, and line ${Math.max(...missing)} was anchored: its end was cut off`);
  }

  report(fault: Fault | undefined): Report {
    const { state } = this;
    const { lines, firstSeq, storeId, epochs, checkpoints, signedLines, sigsChecked, sigsUnchecked, signingKey, anchors } = state;
    return {
      ok: fault === undefined && state.refusedRollbacks === 0,
      lines,
      firstSeq,
      lastSeq: state.seq,
      storeId,
      epochs,
      checkpoints,
      signedLines,
      unsignedLines: lines - signedLines,
      sigsChecked,
      sigsUnchecked,
      signingKey,
      anchors,
      rollbacks: state.rollbacks,
      rollbacksAt: [...state.rollbacksAt],
      fault: fault ?? null,
    };
  }

  /** Wipes what is secret. */
  close(): void {
    this.state.epochKey?.wipe();
  }

  #wrongOrder(): string | undefined {
    const { state } = this;
    const { seq } = this.#scanner;
    if (seq === state.seq + 1) return undefined;
    if (state.lines === 0) return `its \`seq\` is ${seq}: the lines before it, of earlier files, are missing`;
    return `its \`seq\` is ${seq}, and ${state.seq + 1} is due: lines are missing, repeated, moved or put in`;
  }

  /**
   * The line does not follow. Either it was changed or the one before it: a signature of the line itself tells, or the line behind
   * it, whose `prev` is of the one that stood here.
   */
  #unchained(bytes: Buffer, hash: string, itself: Fault): Fault | undefined {
    const { state } = this;
    const scanner = this.#scanner;
    if (state.lines === 0) return { ...itself, what: 'its `prev` is not zeros, as that of the first line is' };
    const what = 'it is not the line that the next one follows: it was changed, or stands in the place of another';
    const before = { file: state.file, line: state.line, seq: state.seq, what };
    if (scanner.isSigned && this.#isSignatureRight(bytes)) return this.#blameBefore(before);
    state.doubt = { hash, before, itself };
    return undefined;
  }

  #settled(doubt: Doubt, isWhole: boolean): Fault {
    return isWhole && this.#scanner.prev === doubt.hash ? this.#blameBefore(doubt.before) : doubt.itself;
  }

  /** The line that was taken last is not one of those that are right. */
  #blameBefore(fault: Fault): Fault {
    const { state } = this;
    state.lines--;
    state.seq--;
    state.signedLines = Math.min(state.signedLines, state.lines);
    return fault;
  }

  #isSignatureRight(bytes: Buffer): boolean {
    const { eventAt, eventEnd } = this.#scanner;
    const { signingKey, storeId } = this.state;
    return this.#keys.verifies(signingKey, storeId, bytes.subarray(eventAt, eventEnd), this.#scanner.ed25519());
  }

  /** What the line says, against what the lines before it said. */
  #unfit(bytes: Buffer, file: string, line: number): string | undefined {
    const { state } = this;
    const scanner = this.#scanner;
    const { type } = scanner;
    const isPlain = !scanner.isSigned && type !== 'start' && type !== 'recovered';
    const event = isPlain ? undefined : scanner.event();
    const broken = event === undefined ? undefined : faultOfOwn(type, event);
    if (broken !== undefined) return broken;
    if (type === 'start') return this.#start(scanner.event(), bytes, file, line);
    if (scanner.boot !== state.boot) {
      return state.lines === 0 ? 'the first line of a log is its start' : 'its `boot` is not that of the start before it';
    }
    if (scanner.generation >= 0 && scanner.generation < state.generation) {
      return `its \`generation\` is ${scanner.generation}, and was ${state.generation} before`;
    }
    if (scanner.generation >= 0) state.generation = scanner.generation;
    return (event === undefined ? undefined : this.#signed(event, bytes)) ?? this.#sig(bytes);
  }

  #start(event: Readonly<Record<string, unknown>>, bytes: Buffer, file: string, line: number): string | undefined {
    const { state } = this;
    const { boot, seq, generation } = this.#scanner;
    if (boot === state.boot) return 'it is a start, and its `boot` is that of the start before it';
    if (state.lines > 0 && event['store_id'] !== state.storeId) return 'its `store_id` is that of another store';
    if (event['signing_key'] !== state.signingKey) {
      return state.lines === 0
        ? 'its `signing_key` is not the public key given'
        : 'its `signing_key` is not the one that was announced';
    }
    state.boot = boot;
    state.storeId = event['store_id'] as string;
    state.epochs++;
    if (generation < state.generation) this.#rollBack({ file, line, seq, from: state.generation, to: generation });
    state.generation = generation;
    return this.#beginEpoch(event) ?? this.#sig(bytes);
  }

  #beginEpoch(event: Readonly<Record<string, unknown>>): string | undefined {
    const { state } = this;
    const { auditorKey } = this.#options;
    state.epochKey?.wipe();
    state.epochKey = undefined;
    const sealedTo = event['auditor_key'];
    if (auditorKey === undefined || sealedTo === null || sealedTo !== auditorKey.publicKey.toString('base64')) return undefined;
    state.epochKey = auditorKey.open(Buffer.from(event['epoch_key'] as string, 'base64'), state.storeId, state.boot);
    return state.epochKey === undefined
      ? "its `epoch_key` does not open with the auditor's key, to which it says it is sealed"
      : undefined;
  }

  #rollBack(rollback: Rollback): void {
    const { state } = this;
    state.rollbacks++;
    if (!this.#options.acceptedRollbacks?.has(rollback.seq)) state.refusedRollbacks++;
    if (state.rollbacksAt.length < MAX_NAMED_ROLLBACKS) state.rollbacksAt = [...state.rollbacksAt, rollback];
  }

  #signed(event: Readonly<Record<string, unknown>>, bytes: Buffer): string | undefined {
    const { state } = this;
    const { type, seq } = this.#scanner;
    if (type === 'recovered') return undefined;
    if (!this.#isSignatureRight(bytes)) return 'its `ed25519` is not a signature of it under the key in use';
    if (type === 'signing_key') {
      state.signingKey = event['public'] as string;
      return undefined;
    }
    if (event['signing_key'] !== state.signingKey) return 'its `signing_key` is not the one that was announced';
    const lines = seq - state.checkpointSeq - 1;
    if (event['lines'] !== lines) return `its \`lines\` is ${event['lines']}, and ${lines} stand before it`;
    state.checkpoints++;
    state.checkpointSeq = seq;
    return undefined;
  }

  #sig(bytes: Buffer): string | undefined {
    const { state } = this;
    const { eventAt, eventEnd } = this.#scanner;
    if (state.epochKey === undefined) {
      state.sigsUnchecked++;
      return undefined;
    }
    state.sigsChecked++;
    return state.epochKey.verifies(bytes.subarray(eventAt, eventEnd), this.#scanner.sig()) ? undefined : 'its `sig` is wrong';
  }
}
