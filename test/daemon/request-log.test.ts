import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import type { Fields } from '../../dist/daemon/log.js';
import { OP } from '../../dist/wire/frames.js';
import { askHttp } from './http-peer.js';
import { type Running, running } from './running.js';

const X = Buffer.from('x');

/** The fields of each event of that name. */
function said({ events, fields }: Running, event: string): Fields[] {
  return fields.filter((_, at) => events[at]!.event === event);
}

test('each request over HTTP, and each that the native core leaves to us, has one line at debug with its ids', async (t) => {
  const daemon = await running(t);
  const [first, second] = [await daemon.connect(), await daemon.connect()];
  const { frame, answer } = first.prepare(OP.createDekForThread, ['thread-1']);
  first.write(frame);
  const { id, results } = await answer;
  await second.outcome(OP.describeKey, 'k_absent');
  await askHttp(daemon.daemon.socket, {
    path: '/encrypt',
    body: { key_id: results[0], plaintext: X.toString('base64') },
    headers: { 'X-Request-Id': 'their-id' },
  });
  const lines = said(daemon, 'request');
  t.deepEqual(
    lines.map(({ surface, operation, outcome }) => [surface, operation, outcome]),
    [
      ['binary', 'create_dek_for_thread', 'ok'],
      ['binary', 'describe_key', 'KEY_NOT_FOUND'],
      ['http', 'encrypt', 'ok'],
    ],
  );
  const [created, described, encrypted] = lines as [Fields, Fields, Fields];
  t.is(created['request_id'], id);
  t.is(created['bytes'], frame.length);
  t.not(created['connection'], described['connection'], 'each connection has its own number');
  t.is(encrypted['request_id'], 'their-id');
  t.deepEqual(Object.keys(encrypted).sort(), [
    'actor',
    'answer_bytes',
    'bytes',
    'connection',
    'operation',
    'outcome',
    'request_id',
    'surface',
    'us',
  ]);
  for (const { us, actor } of lines) {
    t.true(Number.isInteger(us) && (us as number) >= 0);
    t.is(actor, `uid:${process.geteuid?.()}`);
  }
  t.notRegex(JSON.stringify(lines), /thread-1|k_[0-9a-f]{32}/, 'neither the thread nor the key');
});

test('what the native core answers has no line', async (t) => {
  const daemon = await running(t);
  const peer = await daemon.connect();
  const key = (await peer.ask(OP.createDek, null)).results[0];
  const before = daemon.events.length;
  for (let n = 0; n < 20; n++) await peer.ask(OP.encrypt, key, X, null);
  t.is(daemon.events.length, before);
});

test('a failure of ours is logged with the ids that the caller has', async (t) => {
  const daemon = await running(t, {});
  const peer = await daemon.connect();
  const key = (await peer.ask(OP.createDek, null)).results[0] as string;
  const records = join(daemon.directory, 'data', 'kms-deks');
  for (const name of readdirSync(records, { recursive: true, encoding: 'utf8' })) {
    if (name.includes(key)) writeFileSync(join(records, name), '{');
  }
  const { frame, answer } = peer.prepare(OP.describeKey, [key]);
  peer.write(frame);
  const { id, error } = await answer;
  t.is(error?.code, 'STORE_UNAVAILABLE');
  await askHttp(daemon.daemon.socket, { path: `/v1/keys/${key}`, headers: { 'X-Request-Id': 'mine' } });
  const [binary, http] = said(daemon, 'request_failed') as [Fields, Fields];
  t.is(binary['request_id'], id);
  t.true(Number.isInteger(binary['connection']));
  t.is(http['request_id'], 'mine');
  for (const { code, actor } of [binary, http]) t.deepEqual([code, actor], ['STORE_UNAVAILABLE', `uid:${process.geteuid?.()}`]);
});
