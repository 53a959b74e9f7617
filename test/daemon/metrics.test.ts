import test from 'ava';
import { OPERATION_NAMES, OUTCOMES } from '../../dist/daemon/counters.js';
import { MAX_COLD_IN_FLIGHT } from '../../dist/limits.js';
import { OP } from '../../dist/wire/frames.js';
import { rowsOf } from '../house/sources.js';
import { askHttp, codeOf } from './http-peer.js';
import { Peer } from './peer.js';
import { running } from './running.js';
import { type Scrape, scrape } from './scrape.js';

// One after the other: the native core counts for the whole process.

const OWN = process.geteuid?.() ?? -1;
const NOBODY = { allowedUids: [], adminUids: [], auditorUids: [], unauthenticatedLoopbackRoles: [] };
const X = Buffer.from('x');

/** Requests of a surface by operation and outcome, as a scrape names them. */
function requests(surface: string, operation: string, outcome: string): string {
  return `requests_total{surface="${surface}",operation="${operation}",outcome="${outcome}"}`;
}

function timed(surface: string, operation: string): string {
  return `request_seconds_count{surface="${surface}",operation="${operation}"}`;
}

/** How often each operation of the surface was answered must be how often its time was taken. */
function sameCounts(before: Scrape, after: Scrape, surface: string): string[] {
  return OPERATION_NAMES.filter((operation) => {
    const answered = after.since(before, ...OUTCOMES.map((outcome) => requests(surface, operation, outcome)));
    return answered.reduce((sum, count) => sum + count, 0) !== after.since(before, timed(surface, operation))[0];
  });
}

test.serial('what the native core answers is counted by operation and outcome, and timed', async (t) => {
  const { daemon, connect } = await running(t);
  const peer = await connect();
  const key = (await peer.ask(OP.createDek, null)).results[0] as string;
  const before = await scrape(t, daemon.socket);
  const sealed = (await peer.ask(OP.encrypt, key, X, null)).results[0] as Buffer;
  const frames = Array.from({ length: 50 }, () => peer.prepare(OP.encrypt, [key, X, null]));
  peer.write(...frames.map(({ frame }) => frame));
  await Promise.all(frames.map(({ answer }) => answer));
  await peer.ask(OP.decrypt, key, sealed, null);
  t.is(await peer.outcome(OP.decrypt, key, sealed, X), 'AUTHENTICATION_FAILED');
  await peer.ask(OP.encryptMany, key, [X, X, X], null);
  await peer.ask(OP.decryptMany, key, [sealed, X], null);
  t.is(await peer.outcome(OP.decryptMany, key, 7, null), 'INVALID_ARGUMENT');
  const after = await scrape(t, daemon.socket);
  t.deepEqual(
    after.since(
      before,
      requests('binary', 'encrypt', 'ok'),
      requests('binary', 'decrypt', 'ok'),
      requests('binary', 'decrypt', 'AUTHENTICATION_FAILED'),
      requests('binary', 'encrypt_many', 'ok'),
      requests('binary', 'decrypt_many', 'ok'),
      requests('binary', 'decrypt_many', 'INVALID_ARGUMENT'),
      'key_cache_hits_total',
      'key_cache_misses_total',
    ),
    [51, 1, 1, 1, 1, 1, 55, 0],
  );
  t.deepEqual(sameCounts(before, after, 'binary'), []);
  t.is(after.get('cipher_contexts'), 1);
});

test.serial('what waits for the disk or the pool is counted once, with what it came to', async (t) => {
  const { daemon, connect } = await running(t, { cachedKeys: 1 });
  const peer = await connect();
  const [first, second] = [await peer.ask(OP.createDek, null), await peer.ask(OP.createDek, null)].map(
    ({ results }) => results[0],
  );
  const before = await scrape(t, daemon.socket);
  await peer.ask(OP.encrypt, first, X, null);
  await peer.ask(OP.encrypt, second, X, null);
  await peer.ask(OP.encrypt, second, Buffer.alloc(400_000), null);
  await peer.ask(OP.encrypt, null, X, null);
  t.is(await peer.outcome(OP.encrypt, 'k_absent', X, null), 'KEY_NOT_FOUND');
  await peer.ask(OP.createDekForThread, 'a');
  t.is(await peer.outcome(OP.describeKey, 'k_absent'), 'KEY_NOT_FOUND');
  t.is(await peer.outcome(99), 'UNSUPPORTED');
  const after = await scrape(t, daemon.socket);
  t.deepEqual(
    after.since(
      before,
      requests('binary', 'encrypt', 'ok'),
      requests('binary', 'encrypt', 'KEY_NOT_FOUND'),
      requests('binary', 'create_dek_for_thread', 'ok'),
      requests('binary', 'describe_key', 'KEY_NOT_FOUND'),
      requests('binary', 'other', 'UNSUPPORTED'),
    ),
    [4, 1, 1, 1, 1],
  );
  t.deepEqual(sameCounts(before, after, 'binary'), []);
  const [misses, evictions] = after.since(before, 'key_cache_misses_total', 'key_cache_evictions_total{reason="room"}');
  t.true(misses! >= 3, 'both keys, and the one that is not there');
  t.true(evictions! >= 2);
  t.is(after.get('keys_cached'), 1);
});

test.serial('HTTP is counted under its own surface', async (t) => {
  const { daemon } = await running(t);
  const before = await scrape(t, daemon.socket);
  const ask = (path: string, body?: unknown) => askHttp(daemon.socket, { path, body });
  const { json } = await ask('/create_dek_for_thread', { thread_id: 'a' });
  const plaintext = X.toString('base64');
  await ask('/encrypt', { key_id: json!['key_id'], plaintext });
  await ask('/encrypt', { plaintext: '!' });
  await ask('/v1/encrypt_many', { key_id: json!['key_id'], plaintexts: [plaintext] });
  for (const path of ['/healthz', '/health', '/readyz', '/openapi.json', '/v1/status', '/none']) await ask(path);
  const after = await scrape(t, daemon.socket);
  const counted: Array<[string, string, number]> = [
    ['create_dek_for_thread', 'ok', 1],
    ['encrypt', 'ok', 1],
    ['encrypt', 'INVALID_ARGUMENT', 1],
    ['encrypt_many', 'ok', 1],
    ['health', 'ok', 2],
    ['ready', 'ok', 1],
    ['openapi', 'ok', 1],
    ['status', 'ok', 1],
    ['other', 'UNSUPPORTED', 1],
    ['metrics', 'ok', 1],
  ];
  t.deepEqual(
    after.since(before, ...counted.map(([operation, outcome]) => requests('http', operation, outcome))),
    counted.map(([, , count]) => count),
  );
  t.deepEqual(sameCounts(before, after, 'http'), []);
  t.deepEqual(after.since(before, requests('binary', 'encrypt', 'ok'), requests('binary', 'status', 'ok')), [0, 0]);
});

test.serial('connections, requests under way and the memory they hold are told', async (t) => {
  const { daemon, connect } = await running(t);
  const [one, other] = [await connect(), await connect()];
  await one.ask(OP.hello, 1, null);
  const key = (await other.ask(OP.createDek, null)).results[0];
  const now = await scrape(t, daemon.socket);
  t.is(now.get('connections{surface="binary"}'), 2);
  t.is(now.get('connections{surface="http"}'), 1);
  t.is(now.get('requests_in_flight{surface="binary"}'), 0);
  t.is(now.get('requests_in_flight{surface="http"}'), 1, 'the scrape itself');
  t.is(now.get('held_bytes'), 0);
  // The beginning of a frame: it is kept until its rest comes.
  const { frame } = one.prepare(OP.encrypt, [key, Buffer.alloc(100_000), null]);
  one.write(frame.subarray(0, 60_000));
  let later = await scrape(t, daemon.socket);
  while (later.get('held_bytes') === 0) later = await scrape(t, daemon.socket);
  t.true(later.get('held_bytes') >= 60_000);
});

test.serial('refusals are counted by their reason', async (t) => {
  const { daemon, connect } = await running(t, { dev: true }, { access: { ...NOBODY, auditorUids: [OWN] } });
  const peer = await connect();
  const before = await scrape(t, daemon.socket);
  t.is(await peer.outcome(OP.encrypt, 'k_1', X, null), 'PERMISSION_DENIED');
  t.is(await peer.outcome(OP.createDek, null), 'PERMISSION_DENIED');
  t.is(await peer.outcome(OP.hello, 1, 'token'), 'UNAUTHENTICATED');
  t.is((await askHttp(daemon.socket, { path: '/encrypt', body: '{' })).status, 403);
  const parts = Array.from({ length: MAX_COLD_IN_FLIGHT + 7 }, () => peer.prepare(OP.status, []));
  peer.write(...parts.map(({ frame }) => frame));
  await Promise.all(parts.map(({ answer }) => answer));
  peer.write(Buffer.from([0, 0, 0, 0]));
  await peer.closed;
  const stranger = await Peer.connect(daemon.socket);
  stranger.write(Buffer.from([0x01, 0x02]));
  await stranger.closed;
  const after = await scrape(t, daemon.socket);
  const reasons = ['permission', 'unauthenticated', 'busy', 'protocol', 'peer', 'rate', 'sealed', 'connections', 'too_large'];
  t.deepEqual(after.since(before, ...reasons.map((reason) => `refusals_total{reason="${reason}"}`)), [3, 1, 7, 2, 0, 0, 0, 0, 0]);
  t.deepEqual([...after.labelled('reason')].sort(), [...reasons, 'idle', 'room'].sort(), 'all of them, from the beginning');
});

test.serial('requests while sealed are refusals, and that it is sealed is told', async (t) => {
  const { daemon, connect } = await running(t, {});
  const peer = await connect();
  await peer.ask(OP.hello, 1, null);
  const before = await scrape(t, daemon.socket);
  t.is(before.get('sealed'), 0);
  await peer.ask(OP.seal);
  t.is(await peer.outcome(OP.encrypt, 'k_1', X, null), 'SEALED');
  t.is((await askHttp(daemon.socket, { path: '/healthz' })).status, 503);
  const sealed = await scrape(t, daemon.socket);
  t.is(sealed.get('sealed'), 1);
  t.deepEqual(sealed.since(before, 'refusals_total{reason="sealed"}'), [2]);
  await peer.ask(OP.unseal);
  t.is((await scrape(t, daemon.socket)).get('sealed'), 0);
});

test.serial('whatever a peer sends, there is no label value beside those that are documented', async (t) => {
  const { daemon, connect } = await running(t);
  const peer = await connect();
  for (let n = 0; n < 100; n++) {
    await askHttp(daemon.socket, {
      method: n % 2 ? 'GET' : `M${n}`,
      path: `/bad-${n}?a=${n}`,
      headers: { 'X-Request-Id': `id-${n}` },
    });
    await askHttp(daemon.socket, { path: `/v1/keys/k_bad${n}` });
    await peer.outcome(100 + n, `thread-${n}`);
    await peer.outcome(OP.encrypt, `k_bad${n}`, X, null);
    await peer.outcome(OP.createDekForThread, `thread-${n}`);
  }
  const now = await scrape(t, daemon.socket);
  const known: Record<string, readonly string[]> = {
    surface: ['binary', 'http'],
    operation: OPERATION_NAMES,
    outcome: [...OUTCOMES, 'refused', 'failed'],
  };
  for (const [label, values] of Object.entries(known)) {
    t.deepEqual(
      [...now.labelled(label)].filter((value) => !values.includes(value)),
      [],
      label,
    );
  }
  const labels = new Set([...now.values.keys()].flatMap((key) => key.match(/[a-z]+(?==")/g) ?? []));
  const documented = rowsOf('docs/RUNBOOK.md', /^`[a-z_`, ]+`$/)
    .filter(([, type]) => /^(counter|gauge|histogram)$/.test(type!))
    .flatMap(([, , cell]) => [...cell!.replaceAll(/\([^)]*\)/g, '').matchAll(/`([a-z]+)`/g)].map(([, label]) => label!));
  // Without TLS there is no file of it.
  t.deepEqual([...labels, 'file'].filter((label) => label !== 'le').sort(), [...new Set(documented)].sort());
  t.notRegex(now.text, /bad|thread-\d|k_[0-9a-f]{6}|uid/);
  t.true(now.text.length < 128 * 1024);
});

test.serial('docs/RUNBOOK.md names every metric with its type, and no other', async (t) => {
  const { daemon } = await running(t);
  const { types } = await scrape(t, daemon.socket);
  const rows = rowsOf('docs/RUNBOOK.md', /^`[a-z_`, ]+`$/).filter(([, type]) => /^(counter|gauge|histogram)$/.test(type!));
  const documented = rows.flatMap(([names, type]) =>
    [...names!.matchAll(/`([a-z_]+)`/g)].map(([, name]) => [
      name!.startsWith('process_') ? name! : `progressdb_kms_${name}`,
      type!,
    ]),
  );
  t.deepEqual(documented.sort(), [...types].sort());
  for (const [, expression] of rowsOf('docs/RUNBOOK.md', /^[a-z ]+$/).filter((cells) => cells.length === 4)) {
    for (const [name] of (expression ?? '').matchAll(/(progressdb_kms|process)_[a-z_]+/g)) {
      t.true(types.has(name.replace(/_bucket$/, '')), name);
    }
  }
});

test.serial('the metrics are for auditors and admins, and nobody else', async (t) => {
  const access = {
    client: { allowedUids: [OWN], adminUids: [OWN + 1] },
    auditor: { auditorUids: [OWN] },
    admin: { adminUids: [OWN] },
  };
  for (const [role, lists] of Object.entries(access)) {
    const { daemon } = await running(t, { dev: true }, { access: { ...NOBODY, ...lists } });
    const answer = await askHttp(daemon.socket, { path: '/tenant-1/metrics' });
    t.is(answer.status, role === 'client' ? 403 : 200, role);
    if (role === 'client') t.is(codeOf(answer), 'PERMISSION_DENIED');
    else t.is(answer.headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
    const head = await askHttp(daemon.socket, { method: 'HEAD', path: '/metrics' });
    t.deepEqual([head.status, head.text], [role === 'client' ? 403 : 200, '']);
    const posted = await askHttp(daemon.socket, { path: '/metrics', body: '{}' });
    t.deepEqual([posted.status, posted.headers.allow], [405, 'GET, HEAD']);
  }
});
