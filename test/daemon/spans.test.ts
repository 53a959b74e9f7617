import { SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { BasicTracerProvider, InMemorySpanExporter, type ReadableSpan, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base';
import test from 'ava';
import { type Spans, spansFor } from '../../dist/daemon/spans.js';
import type { Followed } from '../../dist/daemon/watch.js';
import { OP } from '../../dist/wire/frames.js';
import { askHttp } from './http-peer.js';
import { running } from './running.js';

// One after the other: an SDK is registered for the whole process, and not taken back.

const X = Buffer.from('x');
const TRACE = '0af7651916cd43dd8448eb211c80319c';
const PARENT = 'b7ad6b7169203331';
const exporter = new InMemorySpanExporter();

function attributesOf({ attributes }: ReadableSpan) {
  return Object.fromEntries(Object.entries(attributes).map(([name, value]) => [name.replace('progressdb_kms.', ''), value]));
}

test.serial('without an SDK no span is made, and who asked for spans is told', async (t) => {
  t.is(spansFor('1'), undefined);
  const { events } = await running(t, { dev: true, tracing: true });
  t.is(events.filter(({ event }) => event === 'tracing_without_sdk').length, 1);
});

test.serial('with an SDK, but without being told to, none is made either', async (t) => {
  trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }));
  const { connect, daemon } = await running(t);
  await (await connect()).ask(OP.createDek, null);
  await askHttp(daemon.socket, { path: '/healthz' });
  t.deepEqual(exporter.getFinishedSpans(), []);
});

test.serial('each request that is followed is a span, and what the native core answers is none', async (t) => {
  exporter.reset();
  const { connect, daemon, events } = await running(t, { dev: true, tracing: true });
  t.false(events.some(({ event }) => event === 'tracing_without_sdk'));
  const peer = await connect();
  const { frame, answer } = peer.prepare(OP.createDekForThread, ['a-thread']);
  peer.write(frame);
  const key = (await answer).results[0] as string;
  await peer.ask(OP.encrypt, key, X, null);
  await peer.ask(OP.describeKey, 'k_absent');
  await askHttp(daemon.socket, {
    path: '/encrypt',
    body: { key_id: key, plaintext: 'eA==' },
    headers: { traceparent: `00-${TRACE}-${PARENT}-01` },
  });
  const spans = exporter.getFinishedSpans();
  t.deepEqual(
    spans.map((span) => [span.name, span.kind, attributesOf(span)['surface'], attributesOf(span)['outcome']]),
    [
      ['create_dek_for_thread', SpanKind.SERVER, 'binary', 'ok'],
      ['describe_key', SpanKind.SERVER, 'binary', 'KEY_NOT_FOUND'],
      ['encrypt', SpanKind.SERVER, 'http', 'ok'],
    ],
  );
  const [created, described, encrypted] = spans as [ReadableSpan, ReadableSpan, ReadableSpan];
  t.is(attributesOf(created)['request_bytes'], frame.length);
  t.deepEqual(Object.keys(attributesOf(encrypted)).sort(), ['answer_bytes', 'outcome', 'request_bytes', 'surface']);
  t.is(created.parentSpanContext, undefined);
  t.is(encrypted.spanContext().traceId, TRACE);
  t.is(encrypted.parentSpanContext?.spanId, PARENT);
  t.is(described.status.code, SpanStatusCode.UNSET, 'what a caller did wrong is no error of the service');
  const told = JSON.stringify(spans.map(({ name, attributes, status, events: own }) => [name, attributes, status, own]));
  t.false(told.includes(key) || told.includes('a-thread') || told.includes('uid:'));
});

function recorded(spans: Spans, change: Partial<Followed>, outcome: Parameters<Spans['record']>[1] = 'ok'): ReadableSpan {
  exporter.reset();
  const followed: Followed = { surface: 'http', requestId: 'a', place: 0, actor: undefined, bytes: 1, begun: performance.now() };
  spans.record({ ...followed, ...change }, outcome, 25);
  return exporter.getFinishedSpans()[0]!;
}

test.serial('a traceparent that is none begins a trace of its own', (t) => {
  const spans = spansFor('1')!;
  const parentOf = (traceparent: string) => recorded(spans, { traceparent }).parentSpanContext;
  t.is(parentOf(`00-${TRACE}-${PARENT}-01`)?.spanId, PARENT);
  t.is(parentOf(`cc-${TRACE}-${PARENT}-01-more`)?.spanId, PARENT, 'a later version');
  for (const wrong of [
    '',
    'x',
    `ff-${TRACE}-${PARENT}-01`,
    `00-${'0'.repeat(32)}-${PARENT}-01`,
    `00-${TRACE}-${'0'.repeat(16)}-01`,
    `00-${TRACE.toUpperCase()}-${PARENT}-01`,
    `00-${TRACE}-${PARENT}-01x`,
    `00-${TRACE}-${PARENT}`,
  ]) {
    t.is(parentOf(wrong), undefined, wrong);
  }
  t.is(recorded(spans, {}).parentSpanContext, undefined);
});

test.serial('a span is as long as the request took, and failed where the fault was ours', (t) => {
  const spans = spansFor('1')!;
  const failed = recorded(spans, {}, 'STORE_UNAVAILABLE');
  t.is(failed.status.code, SpanStatusCode.ERROR);
  t.is(failed.status.message, undefined);
  const [seconds, nanoseconds] = failed.duration;
  t.true(seconds === 0 && Math.abs(nanoseconds - 25e6) < 1e6);
});
