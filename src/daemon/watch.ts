import type { ErrorCode } from '../errors.js';
import { type Counters, OPERATION_NAMES, type Surface } from './counters.js';
import type { Denials } from './denials.js';
import type { Log } from './log.js';
import type { Spans } from './spans.js';

/** One request on its way, and what is known of it. Nothing here is content. */
export interface Followed {
  readonly surface: Surface;
  /** Over HTTP its `X-Request-Id`, else the frame's. */
  readonly requestId: string | number;
  /** The daemon's number of the binary connection. */
  readonly connection?: number;
  /** The header that names the caller's span. */
  readonly traceparent?: string | undefined;
  /** An index of `OPERATION_NAMES`. */
  place: number;
  actor: string | undefined;
  /** Of the frame or the body. */
  bytes: number;
  /** Undefined where the native core writes the answer. */
  answerBytes?: number | undefined;
  /** When it was there whole, of `performance.now()`. */
  begun: number;
  /** The native core has counted its outcome. */
  isCounted?: boolean;
}

/** Follows the requests that the native core does not answer at once: counts them, and tells of each in the log and in a span. */
export class Watch {
  constructor(
    readonly counters: Counters,
    private readonly log: Log,
    private readonly denials: Denials,
    /** Undefined where nobody collects them. */
    private readonly spans: Spans | undefined,
  ) {}

  begin(followed: Followed): void {
    this.counters.entered(followed.surface);
  }

  /** Once for each `begin`. */
  end(followed: Followed, outcome: 'ok' | ErrorCode): void {
    this.counters.left(followed.surface);
    this.note(followed, outcome);
  }

  /** For a request that did not wait: answered at once. */
  note(followed: Followed, outcome: 'ok' | ErrorCode): void {
    const { surface, place, begun } = followed;
    const milliseconds = performance.now() - begun;
    if (!followed.isCounted) this.counters.answered(surface, place, outcome);
    this.counters.took(surface, place, milliseconds);
    if (outcome === 'PERMISSION_DENIED' || outcome === 'UNAUTHENTICATED') {
      this.denials.note({ actor: followed.actor ?? 'anonymous', operation: OPERATION_NAMES[place] ?? 'other', outcome });
    }
    this.log('debug', 'request', {
      surface,
      connection: followed.connection,
      request_id: followed.requestId,
      actor: followed.actor,
      operation: OPERATION_NAMES[place],
      outcome,
      bytes: followed.bytes,
      answer_bytes: followed.answerBytes,
      us: Math.round(milliseconds * 1_000),
    });
    this.spans?.record(followed, outcome, milliseconds);
  }
}
