import test from 'ava';
import pg from 'pg';
import { KmsError } from '../../dist/errors.js';
import { Superseded } from '../../dist/store/key-store.js';
import { openPostgresStore } from '../../dist/store/postgres.js';
import { PostgresServer } from '../postgres-server.js';
import { backupsContract } from './backups-contract.js';
import { keyStoreContract } from './contract.js';
import { newKeyring, newRecord, next, plain } from './documents.js';
import { sealedContract } from './sealed-contract.js';

const server = PostgresServer.start();

if (typeof server === 'string') {
  test(`SKIPPED: the key store in PostgreSQL: ${server}`, (t) => t.pass());
} else {
  const opened: Array<{ close(): Promise<void> }> = [];
  const url = server.url('postgres');
  let count = 0;

  const openIn = async (schema: string, daemonId = 'd1') => {
    const store = await openPostgresStore({ url, schema, daemonId, connections: 4 });
    opened.push(store);
    return store;
  };
  const open = () => {
    count += 1;
    return openIn(`kms_${count}`);
  };
  const asked = async (text: string, values: unknown[] = []) => {
    const client = new pg.Client({ host: server.directory, user: 'kms', database: 'postgres' });
    await client.connect();
    try {
      return (await client.query(text, values)).rows;
    } finally {
      await client.end();
    }
  };

  test.after.always(async () => {
    for (const store of opened) await store.close();
    server.stop();
  });

  keyStoreContract(test, open, false);
  backupsContract(test, open);
  sealedContract(test, open);

  test('two stores that open a new schema at once both have it', async (t) => {
    const stores = await Promise.all(['d1', 'd2', 'd3'].map((id) => openIn('at_once', id)));
    const record = newRecord();
    await stores[0]!.createRecord(record);
    t.deepEqual(plain(await stores[2]!.readRecord(record.keyId)), record);
    t.deepEqual(await asked('select version from at_once.migrations'), [{ version: 1 }, { version: 2 }]);
  });

  test('a schema that a newer version has made is refused by name', async (t) => {
    await openIn('newer');
    await asked('insert into newer.migrations (version) values (3)');
    const error = await t.throwsAsync(openIn('newer'), { instanceOf: KmsError });
    t.is(error?.code, 'UNSUPPORTED');
    t.regex(error?.message ?? '', /newer has version 3; this progressdb-kms knows 2/);
  });

  test('who only looks makes no schema', async (t) => {
    const look = () => openPostgresStore({ url, schema: 'unmade', daemonId: 'd1', inspect: true });
    t.is((await t.throwsAsync(look(), { instanceOf: KmsError }))?.code, 'STORE_UNAVAILABLE');
    t.deepEqual(await asked("select to_regnamespace('unmade') as found"), [{ found: null }]);
    await openIn('unmade');
    await t.notThrowsAsync(look().then((store) => store.close()));
  });

  test('a rotation that kept very many records is dropped by statements that each remove some of them', async (t) => {
    const store = await openIn('many');
    await asked(`create function many.refuse() returns trigger language plpgsql as $$ begin
      if (select count(*) from gone) > 10000 then raise exception 'too many for one statement'; end if; return null; end $$`);
    await asked(
      'create trigger bounded after delete on many.backups referencing old table as gone for each statement execute function many.refuse()',
    );
    const kept = 'insert into many.backups select $1, $2 || n, false, $3 from generate_series(1, $4) as n';
    await asked(kept, ['r2-0123456789abcdef', 'k_', Buffer.from('x'), 12_000]);
    await asked(kept, ['r3-0123456789abcdef', 'k_', Buffer.from('x'), 1]);
    await store.backups.drop('r2-0123456789abcdef');
    t.deepEqual(await store.backups.list(), ['r3-0123456789abcdef']);
  });

  test('of two keyrings for one place one is written, and the other is told', async (t) => {
    const [a, b] = [await openIn('cas', 'a'), await openIn('cas', 'b')];
    await a!.writeKeyring(newKeyring(1), { before: 0 });
    await t.throwsAsync(b!.writeKeyring(newKeyring(1), { before: 0 }), { instanceOf: Superseded });
    const second = newKeyring(2);
    await b!.writeKeyring(second, { before: 1 });
    await t.throwsAsync(a!.writeKeyring(newKeyring(2), { before: 1 }), { instanceOf: Superseded });
    t.deepEqual(plain(await a!.readKeyring()), second);
  });

  test('no record comes to stand under a KEK that is not active, and one that stands there may change', async (t) => {
    const store = await open();
    const first = newKeyring(1);
    await store.writeKeyring(first, { before: 0 });
    const record = newRecord();
    await store.createRecord(record);
    const [old] = first.keks;
    const kekId = `kek_${'ef'.repeat(16)}`;
    const second = newKeyring(2);
    second.keks = [
      { ...old!, state: 'decrypt-only' },
      { ...old!, kekId, kekVersion: 2 },
    ];
    await store.writeKeyring(second, { before: 1 });
    await t.throwsAsync(store.createRecord(newRecord()), { instanceOf: Superseded });
    const reserved = next(record, { usesReserved: 2048 });
    await store.replaceRecord(reserved);
    const moved = next(reserved, { kekId, kekVersion: 2 });
    await store.replaceRecord(moved);
    await t.throwsAsync(store.replaceRecord(next(moved, { kekId: record.kekId, kekVersion: 1 })), { instanceOf: Superseded });
    t.deepEqual(plain(await store.readRecord(record.keyId)), moved);
  });

  test('no database comes to stand under a KEK that is not active, and one that stands there may change', async (t) => {
    const store = await open();
    const [database, other] = ['ab', 'cd'].map((digits) => digits.repeat(16)) as [string, string];
    const [first, second, third] = [1, 2, 3].map((digit) => Buffer.from(`of version ${digit}`)) as [Buffer, Buffer, Buffer];
    const keyring = newKeyring(1);
    await store.writeKeyring(keyring, { before: 0 });
    const [old] = keyring.keks;
    await store.sealed.write(database, first, undefined, old!.kekId);
    const kekId = `kek_${'ef'.repeat(16)}`;
    const keks = [
      { ...old!, state: 'decrypt-only' as const },
      { ...old!, kekId, kekVersion: 2 },
    ];
    await store.writeKeyring({ ...newKeyring(2), storeId: keyring.storeId, keks }, { before: 1 });
    await t.throwsAsync(store.sealed.write(other, first, undefined, old!.kekId), { instanceOf: Superseded });
    t.is(await store.sealed.read(other), undefined);
    await store.sealed.write(database, second, first, old!.kekId);
    await store.sealed.write(database, third, second, kekId);
    await t.throwsAsync(store.sealed.write(database, first, third, old!.kekId), { instanceOf: Superseded });
    t.deepEqual(await store.sealed.read(database), third);
    await t.notThrowsAsync(store.sealed.write(`${database}/${other}`, first, undefined), 'what is in it stands under none');
  });

  test('a schema of version 1 is brought up to date with the databases that it holds', async (t) => {
    const before = await openIn('first');
    const keyring = newKeyring(1);
    await before.writeKeyring(keyring, { before: 0 });
    await before.close();
    await asked('drop trigger fence on first.sealed_documents');
    await asked('drop function first.fence_document');
    await asked('alter table first.sealed_documents drop column kek_id');
    await asked('delete from first.migrations where version > 1');
    const database = 'ab'.repeat(16);
    const document = Buffer.from('of version 1');
    await asked("insert into first.sealed_documents values ($1, '', $2)", [database, document]);
    const { sealed } = await openIn('first');
    t.deepEqual(await asked('select version from first.migrations'), [{ version: 1 }, { version: 2 }]);
    t.deepEqual(await sealed.read(database), document);
    const next = Buffer.from('of version 2');
    await t.throwsAsync(sealed.write(database, next, document, `kek_${'ef'.repeat(16)}`), { instanceOf: Superseded });
    await sealed.write(database, next, document, keyring.keks[0]!.kekId);
    t.deepEqual(await sealed.read(database), next);
  });

  test('a write that was begun under the KEK before is waited for by the keyring that succeeds it', async (t) => {
    const store = await openIn('waits');
    await store.writeKeyring(newKeyring(1), { before: 0 });
    const writer = new pg.Client({ host: server.directory, user: 'kms', database: 'postgres' });
    await writer.connect();
    await writer.query('set search_path to waits');
    await writer.query('begin');
    const row = ['k_late', 1, 'active', newRecord().kekId, Buffer.alloc(1)];
    await writer.query('insert into records values ($1, $2, $3, $4, $5)', row);
    let isWritten = false;
    const second = newKeyring(2);
    second.keks[0]!.kekId = `kek_${'ef'.repeat(16)}`;
    const write = store.writeKeyring(second, { before: 1 }).then(() => {
      isWritten = true;
    });
    for (let looks = 0; looks < 10; looks += 1) {
      await asked('select 1');
      t.false(isWritten);
    }
    await writer.query('commit');
    await write;
    t.deepEqual(await store.listKeyIds(undefined, 10), ['k_late'], 'it is there for whoever moves all records');
    await writer.end();
  });

  test('with a key its backups are destroyed, in one transaction with those who keep them', async (t) => {
    const store = await open();
    const record = newRecord();
    await store.createRecord(record);
    await store.backups.keep('r2-0123456789abcdef', record.keyId);
    await store.replaceRecord(next(record, { state: 'destroyed', wrapped: new Uint8Array(0) }));
    t.deepEqual(await store.backups.list(), []);
  });

  test('a record in the row of another key is damaged', async (t) => {
    const store = await openIn('swapped');
    const [one, other] = [newRecord({ keyId: 'k_1' }), newRecord({ keyId: 'k_2' })];
    for (const record of [one, other]) await store.createRecord(record);
    await asked(
      "update swapped.records set packed = (select packed from swapped.records where key_id = 'k_2') where key_id = 'k_1'",
    );
    await t.throwsAsync(store.readRecord('k_1'), { name: 'DamagedDocument', message: /swapped/ });
    await asked("update swapped.records set packed = substr(packed, 1, 40) where key_id = 'k_1'");
    await t.throwsAsync(store.readRecord('k_1'), { name: 'DamagedDocument' });
  });

  test('a database that cannot be reached is an error of the table without its password', async (t) => {
    const away = openPostgresStore({ url: 'postgres://kms:hush-hush@127.0.0.1:1/kms?sslmode=disable', daemonId: 'd' });
    const error = await t.throwsAsync(away, { instanceOf: KmsError });
    t.is(error?.code, 'STORE_UNAVAILABLE');
    t.notRegex(`${error?.message} ${error?.stack} ${error?.cause}`, /hush/);
  });
}
