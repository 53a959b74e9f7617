import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import pg from 'pg';
import type { EmbeddedKms } from '../../dist/create.js';
import { KmsError } from '../../dist/errors.js';
import { madeIn, openedIn } from '../kms/databases.js';
import { PostgresServer } from '../postgres-server.js';
import { Fleet, SOON_STALE_MS, until } from './fleet.js';

const test = anyTest as TestFn;
const server = PostgresServer.start();
const text = Buffer.from('a message');

async function code(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'ok',
    (error) => (error instanceof KmsError ? error.code : String(error)),
  );
}

if (typeof server === 'string') {
  test(`SKIPPED: databases of two processes on one PostgreSQL: ${server}`, (t) => t.pass());
} else {
  let count = 0;
  const fleets: Fleet[] = [];
  const two = async (staleAfterMs?: number): Promise<[EmbeddedKms, EmbeddedKms]> => {
    count += 1;
    const made = new Fleet(server, `databases_${count}`);
    fleets.push(made);
    return [await made.open('a', {}, staleAfterMs), await made.open('b', {}, staleAfterMs)];
  };
  const both = async (t: ExecutionContext, stores: readonly EmbeddedKms[], secret: string) =>
    Promise.all(stores.map((kms) => openedIn(t, kms, secret)));

  test.after.always(async () => {
    for (const each of fleets) await each.end();
    server.stop();
  });

  test.serial(
    'a key of a database that one process has disabled is soon refused by the other, which had it in use',
    async (t) => {
      const stores = await two();
      const [a, b] = await both(t, stores, await madeIn(stores[0]));
      const { keyId } = await a!.createDek();
      const { ciphertext } = await b!.encryptWithDek(keyId, text);
      t.deepEqual(Buffer.from(await a!.decryptWithDek(keyId, ciphertext)), text);
      await a!.disableKey(keyId);
      await until(async () => (await code(b!.decryptWithDek(keyId, ciphertext))) === 'KEY_DISABLED');
      await b!.enableKey(keyId);
      await until(async () => (await code(a!.encryptWithDek(keyId, text))) === 'ok');
    },
  );

  test.serial('a backup of databases across a rotation that ended elsewhere is refused: no share in it would open', async (t) => {
    const [a, b] = await two();
    await madeIn(a);
    const snapshot = a.snapshot();
    for await (const { document } of snapshot.documents()) t.true(document.length > 0);
    await b.rotateKek({ wait: true });
    await until(async () => (await a.createDek()).kekVersion === '2');
    t.is(await code(snapshot.keyring('progressdb-kms/backup-mac/v1')), 'CONFLICT');
    snapshot.release();
  });

  test.serial(
    'a process that was held up for too long does not use a key of a database before it has read it anew',
    async (t) => {
      const stores = await two(SOON_STALE_MS);
      const [a] = await both(t, stores, await madeIn(stores[0]));
      const { keyId } = await a!.createDek();
      await a!.encryptWithDek(keyId, text);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, SOON_STALE_MS + 100);
      // Nothing else has run since: the key is still there.
      t.is(await code(a!.encryptWithDek(keyId, text)), 'STORE_UNAVAILABLE');
      await until(async () => (await code(a!.encryptWithDek(keyId, text))) === 'ok');
    },
  );

  test.serial('databases that are made and opened by one process while the other rotates are all there afterwards', async (t) => {
    const [a, b] = await two();
    const secrets: string[] = [];
    for (let round = 0; round < 4; round += 1) {
      const rotation = a.rotateKek({ wait: true });
      const made = await Promise.all(Array.from({ length: 8 }, () => madeIn(b)));
      secrets.push(...made);
      await Promise.all(secrets.map((secret) => openedIn(t, b, secret)));
      await rotation;
    }
    const status = await a.rotateKek({ wait: true });
    t.like(status, { state: 'idle', blockedBy: [] });
    for (const secret of secrets) {
      for (const database of await both(t, [a, b], secret)) await database.createDek();
    }
  });

  test.serial('a database that is made while the KEK is retired elsewhere never stands under that one', async (t) => {
    const [a, b] = await two();
    const all = fleets.at(-1)!;
    await all.asked(`create table ${all.schema}.seen (document bytea)`);
    await all.asked(`create function ${all.schema}.see() returns trigger language plpgsql as $$ begin
      insert into ${all.schema}.seen values (new.document); return null; end $$`);
    await all.asked(
      `create trigger see after insert or update on ${all.schema}.sealed_documents for each row execute function ${all.schema}.see()`,
    );
    const { kekId: retired } = await a.rotationStatus();
    const locker = new pg.Client({ host: server.directory, user: 'kms', database: 'postgres' });
    await locker.connect();
    await locker.query(`begin; lock table ${all.schema}.sealed_documents in share mode`);
    const made = madeIn(b);
    const waiting = () => all.asked("select 1 from pg_locks where relation = 'sealed_documents'::regclass and not granted");
    await until(async () => (await waiting()).length === 1);
    const { state, kekId } = await a.rotateKek({ wait: true });
    t.is(state, 'idle');
    await locker.query('commit');
    await locker.end();
    await both(t, [a, b], await made);
    const seen = await all.asked<{ document: Buffer }>('select document from seen');
    t.true(seen.length > 0);
    for (const { document } of seen) {
      t.true(document.includes(kekId));
      t.false(document.includes(retired), 'a crash after this write would have left it');
    }
    t.like(await b.rotateKek({ wait: true }), { state: 'idle', blockedBy: [] });
  });

  /** The next statement that changes a document waits before it looks at any, for as long as `locker` holds. */
  const heldUp = async (all: Fleet) => {
    const locker = new pg.Client({ host: server.directory, user: 'kms', database: 'postgres' });
    await locker.connect();
    await locker.query('select pg_advisory_lock(900, 1)');
    await all.asked(`create sequence ${all.schema}.turns`);
    await all.asked(`create function ${all.schema}.hold() returns trigger language plpgsql as $$ begin
      if nextval('${all.schema}.turns') = 1 then perform pg_advisory_xact_lock(900, 1); end if; return null; end $$`);
    await all.asked(
      `create trigger hold before update on ${all.schema}.sealed_documents for each statement execute function ${all.schema}.hold()`,
    );
    return locker;
  };
  const END_LEADERS =
    "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted " +
    "and classid::bigint = hashtext('progressdb-kms/rotation')::bigint & 4294967295";

  test.serial(
    'a leader that lost the lead in the middle of moving a database changes nothing of what its successor did',
    async (t) => {
      const [a, b] = await two();
      const all = fleets.at(-1)!;
      const secrets = [await madeIn(a), await madeIn(a)];
      const locker = await heldUp(all);
      await a.rotateKek();
      await until(
        async () =>
          (await all.asked("select 1 from pg_locks where locktype = 'advisory' and classid = 900 and not granted")).length === 1,
      );
      await all.asked(END_LEADERS);
      await until(async () => (await b.rotationStatus()).state === 'idle' && (await b.rotationStatus()).kekVersion === '2');
      const { kekId } = await b.rotateKek({ wait: true });
      const documents = () => all.asked("select document, kek_id from sealed_documents where inner_name = '' order by database");
      const before = await documents();
      t.deepEqual(
        before.map((row) => row['kek_id']),
        [kekId, kekId],
      );
      await locker.end();
      await until(async () => (await a.rotationStatus()).kekVersion === '3' && (await a.health()).status === 'ok');
      for (const secret of secrets) await both(t, [a, b], secret);
      t.like(await a.rotateKek({ dryRun: true }), { blockedBy: [] });
      t.deepEqual(await documents(), before);
    },
  );

  test.serial('both come to one default key of a database', async (t) => {
    const stores = await two();
    const [a, b] = await both(t, stores, await madeIn(stores[0]));
    const sealed = await Promise.all([a!, b!, a!, b!].map((database) => database.encrypt(text)));
    for (const each of sealed) for (const database of [a!, b!]) t.deepEqual(Buffer.from(await database.decrypt(each)), text);
    t.is((await a!.listKeys()).keys.length, 1);
  });
}
