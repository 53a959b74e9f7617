import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { MAX_OPEN_DATABASES } from '../../dist/limits.js';
import { OP } from '../../dist/wire/frames.js';
import { partsOf, secretOf } from '../kms/databases.js';
import { openMemory } from '../provider/subjects.js';
import { askHttp } from './http-peer.js';
import type { Peer } from './peer.js';
import { running } from './running.js';
import { type Scrape, scrape } from './scrape.js';

// One after the other: the native core counts for the whole process.

const OPENINGS = ['ok', 'refused', 'failed'].map((outcome) => `database_openings_total{outcome="${outcome}"}`);
const LIMITS = ['databases_per_identity', 'keys_per_database', 'open'].map(
  (limit) => `database_limit_refusals_total{limit="${limit}"}`,
);
const ENTER = { path: '/create_dek_for_thread', body: { thread_id: 'their/thread' } };

async function made(peer: Peer): Promise<string> {
  return Buffer.from((await peer.ask(OP.newDatabase)).results[0] as Uint8Array).toString('latin1');
}

const bytesOf = (secret: string) => Buffer.from(secret, 'latin1');

/** One that leads to the database of `secret` and does not open it, and one that leads nowhere. */
function wrongOf(secret: string): { wrong: string; missing: string } {
  const { groupId, key } = partsOf(secret);
  const other = (text: string) => text.replace(/.$/, (last) => (last === '7' ? '8' : '7'));
  return { wrong: secretOf({ groupId, key: other(key) }), missing: secretOf({ groupId: other(groupId), key }) };
}

/** Every figure that has changed, but those of times and of the process. */
function changed(before: Scrape, after: Scrape): Record<string, number> {
  const names = [...new Set([...before.values.keys(), ...after.values.keys()])].filter(
    (name) => !/process_|_seconds|surface=http/.test(name),
  );
  const differences = names.map((name) => [name, (after.values.get(name) ?? 0) - (before.values.get(name) ?? 0)] as const);
  return Object.fromEntries(differences.filter(([, difference]) => difference !== 0));
}

for (const workers of [1, 2]) {
  test.serial(`databases that are open are counted, and openings by how they ended, with ${workers} threads`, async (t) => {
    const { daemon, connect } = await running(t, { dev: true, workers });
    const peer = await connect();
    const secrets = [await made(peer), await made(peer)] as [string, string];
    const before = await scrape(t, daemon.socket);
    for (const series of [...OPENINGS, ...LIMITS]) t.true(before.text.includes(series), `${series} is there from the beginning`);
    const peers = [await connect(), await connect(), await connect()] as const;
    for (const [at, secret] of [secrets[0], secrets[0], secrets[1]].entries()) {
      t.is(await peers[at]!.outcome(OP.openDatabase, bytesOf(secret)), 'OK');
    }
    t.is((await scrape(t, daemon.socket)).get('databases_open'), 2, 'one that two have open is one');
    t.is((await askHttp(daemon.socket, { ...ENTER, headers: { KmsDatabaseSecret: secrets[1] } })).status, 200);
    t.is(await peers[0].outcome(OP.openDatabase, bytesOf(wrongOf(secrets[0]).wrong)), 'UNAUTHENTICATED');
    t.is(await peers[0].outcome(OP.openDatabase, bytesOf('no secret')), 'INVALID_ARGUMENT');
    const http = await askHttp(daemon.socket, { ...ENTER, headers: { KmsDatabaseSecret: wrongOf(secrets[0]).missing } });
    t.is(http.status, 401);
    for (const one of peers.slice(0, 2)) t.is(await one.outcome(OP.openDatabase, null), 'OK');
    await peers[2].close();
    let after = await scrape(t, daemon.socket);
    while (after.get('databases_open') > 0) after = await scrape(t, daemon.socket);
    t.deepEqual(after.since(before, ...OPENINGS), [4, 3, 0], 'to leave one is no opening');
  });
}

test.serial('a wrong secret and a database that is not there change the same figures', async (t) => {
  const { daemon, connect } = await running(t);
  const peer = await connect();
  const { wrong, missing } = wrongOf(await made(peer));
  const changes = [];
  for (const secret of [wrong, missing]) {
    const before = await scrape(t, daemon.socket);
    t.is(await peer.outcome(OP.openDatabase, bytesOf(secret)), 'UNAUTHENTICATED');
    const after = await scrape(t, daemon.socket);
    t.deepEqual(after.since(before, ...OPENINGS), [0, 1, 0]);
    changes.push(changed(before, after));
  }
  t.true(Object.keys(changes[0]!).length >= 3, 'the opening, its request, and its refusal');
  t.deepEqual(changes[0], changes[1]);
});

test.serial('a database that is damaged is a failure, and what was counted outlasts a seal', async (t) => {
  const { daemon, connect, directory } = await running(t, {});
  const [inside, peer] = [await connect(), await connect()];
  const secret = await made(peer);
  t.is(await inside.outcome(OP.openDatabase, bytesOf(secret)), 'OK');
  t.is((await scrape(t, daemon.socket)).get('databases_open'), 1);
  await peer.ask(OP.seal);
  const sealed = await scrape(t, daemon.socket);
  t.is(sealed.get('databases_open'), 0);
  await peer.ask(OP.unseal);
  const root = join(directory, 'data', 'kms-databases');
  const file = join(root, readdirSync(root).find((name) => name.endsWith('.database'))!);
  writeFileSync(
    file,
    readFileSync(file).map((byte, at) => (at === 60 ? byte ^ 1 : byte)),
  );
  t.is(await peer.outcome(OP.openDatabase, bytesOf(secret)), 'STORE_UNAVAILABLE');
  const after = await scrape(t, daemon.socket);
  t.deepEqual(
    OPENINGS.map((series) => after.get(series)),
    [1, 0, 1],
  );
});

test.serial('who is refused by a limit of databases is counted by the limit', async (t) => {
  const { daemon, connect } = await running(t, { dev: true, databasesPerIdentity: 1, keysPerDatabase: 1 });
  const peer = await connect();
  const secret = await made(peer);
  t.is(await peer.outcome(OP.newDatabase), 'PERMISSION_DENIED');
  t.is(await peer.outcome(OP.newDatabase), 'PERMISSION_DENIED');
  await peer.outcome(OP.openDatabase, bytesOf(secret));
  t.is(await peer.outcome(OP.createDek, null), 'OK');
  t.is(await peer.outcome(OP.createDek, null), 'PERMISSION_DENIED');
  const now = await scrape(t, daemon.socket);
  t.deepEqual(
    LIMITS.map((series) => now.get(series)),
    [2, 1, 0],
  );
});

test.serial('one database more than may be open is a refusal by that limit, and a failed opening', async (t) => {
  const kms = await openMemory(t, { databasesPerIdentity: 0 });
  const open = async () => kms.openDatabase(await kms.newDatabase());
  for (let n = 0; n < MAX_OPEN_DATABASES; n += 1) await open();
  t.deepEqual([kms.openDatabases, kms.databaseCounts.refusals('open')], [MAX_OPEN_DATABASES, 0]);
  await t.throwsAsync(open(), { code: 'BUSY' });
  t.deepEqual([kms.databaseCounts.refusals('open'), kms.databaseCounts.openings('failed')], [1, 1]);
});

async function scrapedIn(t: ExecutionContext): Promise<{ text: string; needles: string[] }> {
  const { daemon, connect } = await running(t);
  const peer = await connect();
  const secret = await made(peer);
  await peer.outcome(OP.openDatabase, bytesOf(secret));
  const key = (await peer.ask(OP.createDekForThread, 'their/thread')).results[0] as string;
  await peer.ask(OP.encrypt, key, Buffer.from('x'), null);
  await peer.outcome(OP.openDatabase, bytesOf(wrongOf(secret).wrong));
  const ids: string[] = [];
  for await (const { databaseId } of daemon.kms.databases()) ids.push(databaseId);
  t.is(ids.length, 1);
  const { groupId, key: half } = partsOf(secret);
  return { text: (await scrape(t, daemon.socket)).text, needles: [...ids, secret, groupId, half, key, 'their/thread'] };
}

test.serial('nothing in the metrics names a database', async (t) => {
  const { text, needles } = await scrapedIn(t);
  for (const needle of needles) t.false(text.includes(needle), needle);
  t.notRegex(text, /[0-9a-f]{32}/);
});
