import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import test from 'ava';
import { connectKms } from '../../dist/client/index.js';
import { checkBackup } from '../backup/checked.js';
import { entriesOf, MESSAGE, pathIn } from '../backup/ground.js';
import { recordPath } from '../provider/edited.js';
import { refused } from '../provider/refused.js';
import { newPlace, openAt, served } from '../provider/subjects.js';
import { cli, on } from '../recovery/ground.js';

test('a daemon writes a backup while it serves, by each protocol', async (t) => {
  const place = newPlace(t);
  const { client, daemon } = await served(t, place);
  const { keyId } = await client.createDek();
  const http = await connectKms({ endpoint: `http://127.0.0.1:${daemon.ports[0]}` });
  t.teardown(() => http.close());
  for (const [name, kms] of [
    ['binary', client],
    ['http', http],
  ] as const) {
    let stop = false;
    const busy = (async () => {
      while (!stop) await client.encryptWithDek(keyId, MESSAGE);
    })();
    const made = await kms.backup({ path: pathIn(place, name) });
    stop = true;
    await busy;
    t.like(made, { path: pathIn(place, name), records: 1, leftOut: [], bytes: statSync(pathIn(place, name)).size });
    t.is(statSync(pathIn(place, name)).mode & 0o777, 0o600);
    t.deepEqual(await checkBackup(pathIn(place, name), place), []);
    t.true(
      entriesOf(pathIn(place, name)).some(({ type }) => type === 'A'),
      'it says how far the audit log was',
    );
  }
  const lines = readFileSync(join(place.dataDir, 'kms-audit.log'), 'utf8')
    .split('\n')
    .filter((line) => line.includes('"type":"backup"'));
  t.is(lines.length, 2);
  t.like(JSON.parse(lines[0]!).event, { outcome: 'ok', path: pathIn(place, 'binary'), records: 1, left_out: 0 });
});

test('a daemon refuses what it must not write, and says so in its log', async (t) => {
  const place = newPlace(t);
  const { client } = await served(t, place);
  writeFileSync(pathIn(place), 'older');
  await refused(t, client.backup({ path: pathIn(place) }), 'CONFLICT', /is there already$/);
  t.is(readFileSync(pathIn(place), 'utf8'), 'older');
  await refused(t, client.backup({ path: join(place.dataDir, 'x') }), 'INVALID_ARGUMENT', /in the data directory itself/);
  const open = join(place.directory, 'open');
  mkdirSync(open);
  chmodSync(open, 0o777);
  await refused(t, client.backup({ path: join(open, 'x') }), 'PERMISSION_DENIED', /can be written to by others/);
  await refused(t, client.backup({ path: 'relative' }), 'INVALID_ARGUMENT', /^path: an absolute path was expected$/);
  const { keyId } = await client.createDek();
  writeFileSync(recordPath(place, keyId), '{}');
  await refused(t, client.backup({ path: pathIn(place, 'b') }), 'STORE_UNAVAILABLE', /is damaged/);
  t.deepEqual((await client.backup({ path: pathIn(place, 'b'), skipDamaged: true })).leftOut, [keyId]);
  await client.seal();
  await refused(t, client.backup({ path: pathIn(place, 'c') }), 'SEALED');
  t.false(existsSync(pathIn(place, 'c')));
});

test('one backup is written at a time', async (t) => {
  const place = newPlace(t);
  const { client } = await served(t, place);
  await Promise.all(Array.from({ length: 200 }, () => client.createDek()));
  const both = await Promise.allSettled(['a', 'b'].map((name) => client.backup({ path: pathIn(place, name) })));
  const refusal = both.find((one) => one.status === 'rejected');
  t.is(both.filter(({ status }) => status === 'fulfilled').length, 1);
  t.is(refusal?.reason.code, 'CONFLICT');
  await t.notThrowsAsync(client.backup({ path: pathIn(place, 'c') }));
});

test('a rotation waits with the old KEK until a backup that needs it is written', async (t) => {
  const place = newPlace(t);
  const { client, daemon } = await served(t, place);
  for (let i = 0; i < 40; i += 1) await client.createDek();
  const snapshot = daemon.kms.snapshot();
  const records = snapshot.records();
  const first = (await records.next()).value!;
  await client.rotateKek();
  for (;;) {
    const { phase, done, total } = await client.rotationStatus();
    if (phase === 'retire') break;
    t.true(done <= total);
  }
  const document = await snapshot.keyring('progressdb-kms/test');
  t.deepEqual(
    document.keks.map(({ state }) => state),
    ['decrypt-only', 'active'],
  );
  t.true(document.keks.some(({ kekId }) => kekId === first.kekId));
  t.is((await client.rotationStatus()).phase, 'retire');
  snapshot.release();
  await client.rotationStatus();
  for (;;) if ((await client.rotationStatus()).state === 'idle') break;
  t.is((await daemon.kms.slots()).length, 1);
});

test('a backup during a rotation opens with every key, and restores', async (t) => {
  const place = newPlace(t);
  const { client } = await served(t, place);
  const keys = await Promise.all(Array.from({ length: 100 }, () => client.createDek()));
  const sealed = await Promise.all(keys.map(async ({ keyId }) => ({ keyId, ...(await client.encryptWithDek(keyId, MESSAGE)) })));
  const [made] = await Promise.all([client.backup({ path: pathIn(place) }), client.rotateKek({ wait: true })]);
  t.is(made.records, 100);
  t.deepEqual(await checkBackup(pathIn(place), place), []);
  const to = { ...place, dataDir: join(place.directory, 'restored') };
  const ran = await cli(place, ['restore', pathIn(place), ...on(to)]);
  t.is(ran.exit, 0, ran.stderr);
  const kms = await openAt(t, to);
  for (const { keyId, ciphertext } of sealed) t.deepEqual(Buffer.from(await kms.decryptWithDek(keyId, ciphertext)), MESSAGE);
  // What was under way goes on.
  while ((await kms.rotationStatus()).state === 'running') await setTimeout(10);
  t.is((await kms.rotationStatus()).state, 'idle');
  for (const { keyId, ciphertext } of sealed) t.deepEqual(Buffer.from(await kms.decryptWithDek(keyId, ciphertext)), MESSAGE);
});
