import {
  type Context,
  isSpanContextValid,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  type Tracer,
  trace,
} from '@opentelemetry/api';
import { type ErrorCode, FAILURES } from '../errors.js';
import { OPERATION_NAMES } from './counters.js';
import type { Followed } from './watch.js';

/** Version, trace, parent and flags of the W3C's Trace Context, section 3.2; of later versions as much as this one knows. */
const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-|$)/;

function parentOf(traceparent: string | undefined): Context {
  const [, traceId = '', spanId = '', flags = ''] = TRACEPARENT.exec(traceparent ?? '') ?? [];
  const parent = { traceId, spanId, traceFlags: Number.parseInt(flags, 16) & TraceFlags.SAMPLED, isRemote: true };
  return isSpanContextValid(parent) ? trace.setSpanContext(ROOT_CONTEXT, parent) : ROOT_CONTEXT;
}

/**
 * One span for each request that is followed, made at its end: what it did is known then, and it has no children here. No key,
 * thread or caller is in it.
 */
export class Spans {
  constructor(private readonly tracer: Tracer) {}

  record(followed: Followed, outcome: 'ok' | ErrorCode, milliseconds: number): void {
    const startTime = performance.timeOrigin + followed.begun;
    const span: Span = this.tracer.startSpan(
      OPERATION_NAMES[followed.place] ?? 'other',
      {
        kind: SpanKind.SERVER,
        startTime,
        attributes: {
          'progressdb_kms.surface': followed.surface,
          'progressdb_kms.outcome': outcome,
          'progressdb_kms.request_bytes': followed.bytes,
          ...(followed.answerBytes !== undefined && { 'progressdb_kms.answer_bytes': followed.answerBytes }),
        },
      },
      parentOf(followed.traceparent),
    );
    // What the caller did wrong is its outcome, and no error of the service.
    if (outcome !== 'ok' && FAILURES.has(outcome)) span.setStatus({ code: SpanStatusCode.ERROR });
    span.end(startTime + milliseconds);
  }
}

/** Undefined unless an SDK was loaded before (`node --import`): without one every span would be made for nobody. */
export function spansFor(version: string): Spans | undefined {
  const provider = trace.getTracerProvider() as { getDelegateTracer?(name: string): Tracer | undefined };
  const isRegistered = provider.getDelegateTracer === undefined || provider.getDelegateTracer('progressdb-kms') !== undefined;
  return isRegistered ? new Spans(trace.getTracer('progressdb-kms', version)) : undefined;
}
