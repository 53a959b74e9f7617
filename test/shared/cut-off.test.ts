import anyTest, { type TestFn } from 'ava';
import pg from 'pg';
import { createEmbeddedKms } from '../../dist/create.js';
import { KmsError } from '../../dist/errors.js';
import { PostgresServer } from '../postgres-server.js';
import { Fleet, until } from './fleet.js';

const test = anyTest as TestFn;
const server = PostgresServer.start();
const END_LEADERS =
  "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted " +
  "and classid::bigint = hashtext('progressdb-kms/rotation')::bigint & 4294967295";
const text = Buffer.from('a message');

async function code(work: () => unknown): Promise<string> {
  try {
    await work();
    return 'ok';
  } catch (error) {
    return error instanceof KmsError ? error.code : String(error);
  }
}

if (typeof server === 'string') {
  test(`SKIPPED: daemons that are cut off from their PostgreSQL: ${server}`, (t) => t.pass());
} else {
  let count = 0;
  const fleets: Fleet[] = [];
  const fleet = () => {
    count += 1;
    const made = new Fleet(server, `cut_${count}`);
    fleets.push(made);
    return made;
  };

  test.after.always(async () => {
    for (const each of fleets) await each.end();
    server.stop();
  });

  test.serial('a process that hears nothing refuses by itself, without its loop turning', async (t) => {
    const a = await fleet().openImpatient('a');
    const { keyId } = await a.createDek();
    const sealed = a.encryptSync(keyId, text);
    const key = await a.key(keyId);
    const out = Buffer.alloc(64);
    let refusal = '';
    // No promise resolves meanwhile: nothing but the native deadline can end it.
    for (let calls = 0; refusal === ''; calls += 1) {
      try {
        a.decryptSync(keyId, sealed);
      } catch (error) {
        refusal = (error as KmsError).code;
        t.true(calls > 0);
      }
    }
    t.is(refusal, 'STORE_UNAVAILABLE');
    t.throws(() => a.encryptSync(keyId, text), { message: /the key store is unavailable/ });
    t.throws(() => key.encryptInto(text, undefined, out), { message: /the key store is unavailable/ });
    await until(async () => (await code(() => a.decryptWithDek(keyId, sealed))) === 'ok');
  });

  test.serial('without its database a process refuses, says so, and goes on when it is back', async (t) => {
    const all = fleet();
    const [a, b] = [await all.openImpatient('a'), await all.openImpatient('b')];
    const { keyId } = await a.createDek();
    const { ciphertext } = await b.encryptWithDek(keyId, text);
    server.end('immediate');
    try {
      await until(async () => (await code(() => b.decryptWithDek(keyId, ciphertext))) === 'STORE_UNAVAILABLE');
      t.is((await b.health()).status, 'degraded');
      t.regex((await b.health()).storeFault ?? '', /^PostgreSQL: /);
      t.is(await code(() => b.encryptWithDek(keyId, text)), 'STORE_UNAVAILABLE');
      t.is(await code(() => a.createDek()), 'STORE_UNAVAILABLE');
      t.like(await a.rotationStatus(), { state: 'idle', kekVersion: '1' });
      t.regex((await a.rotationStatus()).error ?? '', /PostgreSQL/);
      t.is(await code(() => a.disableKey(keyId)), 'STORE_UNAVAILABLE');
      t.is(await code(() => createEmbeddedKms(all.options('c'))), 'STORE_UNAVAILABLE');
    } finally {
      server.begin();
    }
    for (const kms of [a, b]) {
      await until(async () => (await code(() => kms.decryptWithDek(keyId, ciphertext))) === 'ok');
      await until(async () => (await kms.health()).status === 'ok');
    }
    t.is((await a.createDek()).kekVersion, '1');
  });

  test.serial('what was told while the connection was lost is not missed', async (t) => {
    const all = fleet();
    const [a, b] = [await all.open('a'), await all.open('b')];
    const { keyId } = await a.createDek();
    await b.encryptWithDek(keyId, text);
    await all.asked(
      `select pg_terminate_backend(pid) from pg_stat_activity where query like 'with beat%' and pid <> pg_backend_pid()`,
    );
    await a.disableKey(keyId);
    await until(async () => (await code(() => b.encryptWithDek(keyId, text))) === 'KEY_DISABLED');
    t.pass();
  });

  test.serial('what anybody may say on the channel of the news ends no daemon', async (t) => {
    const all = fleet();
    const a = await all.open('a');
    const { keyId } = await a.createDek();
    for (const payload of ['', '*', 'k_', '\u00e4'.repeat(900), keyId])
      await all.asked('select pg_notify($1, $2)', [`kms_${all.schema}`, payload]);
    t.is(await code(() => a.encryptWithDek(keyId, text)), 'ok');
  });

  test.serial('a writer that wrapped a key under a KEK that was retired meanwhile wraps it again', async (t) => {
    const all = fleet();
    const [a, b] = [await all.open('a'), await all.open('b')];
    const locker = new pg.Client({ host: server.directory, user: 'kms', database: 'postgres' });
    await locker.connect();
    await locker.query(`begin; lock table ${all.schema}.records in share mode`);
    const made = b.createDek();
    const waiting = () =>
      all.asked(
        `select 1 from pg_locks where relation = '${all.schema}.records'::regclass and mode = 'RowExclusiveLock' and not granted`,
      );
    await until(async () => (await waiting()).length === 1);
    t.is((await a.rotateKek({ wait: true })).state, 'idle');
    t.is((await a.rotationStatus()).kekVersion, '2');
    await locker.query('commit');
    await locker.end();
    const { keyId, kekVersion } = await made;
    t.is(kekVersion, '2');
    t.is((await a.describeKey(keyId)).kekVersion, '2');
    const { ciphertext } = await a.encryptWithDek(keyId, text);
    t.deepEqual(Buffer.from(await b.decryptWithDek(keyId, ciphertext)), text);
  });

  test.serial('a rotation whose leader loses the lead is finished', async (t) => {
    const all = fleet();
    const [a, b] = [await all.open('a'), await all.open('b')];
    const keys = await Promise.all(Array.from({ length: 60 }, () => a.createDek()));
    await a.rotateKek({ keysPerSecond: 20 });
    await until(async () => (await b.rotationStatus()).done > 5);
    t.is((await b.rotationStatus()).state, 'running');
    t.is(await code(() => b.rotateKek()), 'CONFLICT');
    await all.asked(END_LEADERS);
    await until(async () => (await a.rotationStatus()).state === 'idle' && (await b.rotationStatus()).state === 'idle');
    for (const { keyId } of keys) t.is((await b.describeKey(keyId)).kekVersion, '2');
    t.is((await all.asked('select active_kek from keyring')).length, 1);
    t.is((await a.createDek()).kekVersion, '2');
  });

  test.serial('a rotation begins although another process has the lead for the moment of a look', async (t) => {
    const all = fleet();
    const a = await all.open('a');
    const looker = new pg.Client({ host: server.directory, user: 'kms', database: 'postgres' });
    await looker.connect();
    await looker.query('select pg_advisory_lock(hashtext($1), hashtext($2))', ['progressdb-kms/rotation', all.schema]);
    const begun = a.rotateKek({ wait: true });
    begun.catch(() => undefined);
    await new Promise((resolve) => setTimeout(resolve, 100));
    await looker.end();
    t.like(await begun, { state: 'idle', kekVersion: '2' });
  });

  test.serial('a leader that was held up at the end of its rotation retires no KEK of the next one', async (t) => {
    const all = fleet();
    const [a, b] = [await all.open('a'), await all.open('b')];
    const keys = await Promise.all(Array.from({ length: 40 }, () => a.createDek()));
    // A backup, which keeps this process alone from retiring KEKs.
    const held = a.snapshot();
    await a.rotateKek();
    await until(async () => (await a.rotationStatus()).phase === 'retire');
    await all.asked(END_LEADERS);
    await until(async () => (await b.rotationStatus()).state === 'idle');
    await b.rotateKek({ keysPerSecond: 10 });
    await until(async () => (await b.rotationStatus()).done > 2);
    held.release();
    await until(async () => (await b.rotationStatus()).state !== 'running');
    t.like(await b.rotationStatus(), { state: 'idle', kekVersion: '3', blockedBy: [] });
    await until(async () => (await code(() => a.createDek())) === 'ok');
    for (const { keyId } of keys) t.is(await code(() => b.encryptWithDek(keyId, text)), 'ok');
    t.like(await a.rotationStatus(), { state: 'idle', error: null });
  });

  test.serial('a blocked rotation is told by all, left alone, and goes on by the word of any', async (t) => {
    const all = fleet();
    const [a, b] = [await all.open('a'), await all.open('b')];
    const [{ keyId }] = await Promise.all([a.createDek(), a.createDek(), a.createDek()]);
    await all.asked('update records set packed = set_byte(packed, 60, 1) where key_id = $1', [keyId]);
    t.is((await a.rotateKek({ wait: true })).state, 'blocked');
    await until(async () => (await b.rotationStatus()).state === 'blocked');
    t.deepEqual(
      (await b.rotationStatus()).blockedBy.map((one) => one.keyId),
      [keyId],
    );
    t.is((await b.rotateKek({ abandon: [keyId], wait: true })).state, 'idle');
    t.is((await a.rotationStatus()).state, 'idle');
    t.is((await a.createDek()).kekVersion, '2');
  });

  test.serial('a keyring that somebody put back is not followed', async (t) => {
    const all = fleet();
    const [a, b] = [await all.open('a'), await all.openImpatient('b')];
    const { keyId } = await a.createDek();
    const [before] = await all.asked('select generation, active_kek, document from keyring');
    await a.rotateKek({ wait: true });
    const { ciphertext } = await b.encryptWithDek(keyId, text);
    const restore = 'update keyring set generation = $1, active_kek = $2, document = $3';
    const [newest] = await all.asked('select generation, active_kek, document from keyring');
    await all.asked(restore, [before!['generation'], before!['active_kek'], before!['document']]);
    await until(async () => (await code(() => b.decryptWithDek(keyId, ciphertext))) === 'STORE_UNAVAILABLE');
    await until(async () => /put it back/.test((await b.health()).storeFault ?? ''));
    await b.close();
    t.is(await code(() => all.open('b')), 'STORE_UNAVAILABLE', 'its audit log knows the later one');
    await all.asked(restore, [newest!['generation'], newest!['active_kek'], newest!['document']]);
    await until(async () => (await code(() => a.decryptWithDek(keyId, ciphertext))) === 'ok');
  });

  test.serial('a process that waits for its turn among others can be closed, and its caller is told', async (t) => {
    const all = fleet();
    const a = await all.open('a');
    const other = new pg.Client({ host: server.directory, user: 'kms', database: 'postgres' });
    await other.connect();
    await other.query('select pg_advisory_lock(hashtext($1), hashtext($2))', ['progressdb-kms/default-key', all.schema]);
    const asking = () =>
      all.asked("select query from pg_stat_activity where application_name = 'progressdb-kms' and query like '%advisory_lock%'");
    try {
      const waiting = code(() => a.encrypt(text));
      await until(async () => (await asking()).length === 1);
      await a.close();
      t.is(await waiting, 'STORE_UNAVAILABLE');
    } finally {
      await other.end();
    }
  });

  test.serial('a log that is gone is missed, and a daemon that is new has none', async (t) => {
    const all = fleet();
    const a = await all.open('a');
    await a.close();
    const { rmSync } = await import('node:fs');
    rmSync(`${all.directory}/a/kms-audit.log`);
    const error = await t.throwsAsync(all.open('a'), { instanceOf: KmsError });
    t.regex(error?.message ?? '', /the audit log is gone/);
    await t.notThrowsAsync(all.open('b'));
  });
}
