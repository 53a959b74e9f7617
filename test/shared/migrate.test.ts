import { existsSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { migrateStore, removeMigrated } from '../../dist/backup/migrate.js';
import { createEmbeddedKms } from '../../dist/create.js';
import { KmsError } from '../../dist/errors.js';
import { openStore } from '../../dist/store/kind.js';
import { openPostgresStore } from '../../dist/store/postgres.js';
import { filled, MESSAGE } from '../backup/ground.js';
import { PostgresServer } from '../postgres-server.js';

const server = PostgresServer.start();
const DATABASE = '0'.repeat(32);

async function code(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'ok',
    (error) => (error instanceof KmsError ? error.code : String(error)),
  );
}

if (typeof server === 'string') {
  test(`SKIPPED: a migration to PostgreSQL: ${server}`, (t) => t.pass());
} else {
  test.after.always(() => server.stop());

  for (const from of ['files', 'lmdb'] as const) {
    test(`a store of ${from} moves to a database with all that it holds, and its daemon goes on with its log`, async (t) => {
      const made = await filled(t, { store: from, keepBackups: 3 });
      const { dataDir, masterKeyFile } = made.place;
      await made.kms.rotateKek({ wait: true });
      await made.kms.close();
      const source = await openStore(from, dataDir);
      const rotationId = (await source.backups.list())[0] as string;
      await source.backups.setAside(rotationId, made.disabled);
      await source.sealed.write(DATABASE, Buffer.from('a database'), undefined);
      await source.sealed.write(`${DATABASE}/${'1'.repeat(32)}`, Buffer.from('what is in it'), undefined);
      await source.close();

      const url = server.url('postgres');
      const store = { kind: 'postgres', url, schema: `from_${from}` } as const;
      const moved = await migrateStore({ dataDir, to: store });
      t.is(moved.to, 'postgres');
      t.true(moved.records >= 3 && moved.kept >= 3 && moved.documents === 2, JSON.stringify(moved));
      t.is(await code(createEmbeddedKms({ dataDir, masterKeyFile })), 'CONFLICT', 'what is left there is older from here on');
      t.is(await code(createEmbeddedKms({ dataDir, masterKeyFile, store: from })), 'CONFLICT');

      const kms = await createEmbeddedKms({ dataDir, masterKeyFile, store, keepBackups: 3 });
      t.deepEqual(Buffer.from(await kms.decryptWithDek(made.active, made.ciphertext)), MESSAGE);
      t.deepEqual(Buffer.from(await kms.decrypt(made.sealed)), MESSAGE);
      t.is((await kms.describeKey(made.destroyed)).state, 'destroyed');
      t.is((await kms.rotateKek({ wait: true })).kekVersion, '3');
      t.is(await code(migrateStore({ dataDir, to: store })), 'CONFLICT', 'it is there already');
      await kms.close();

      const there = await openPostgresStore({ url, schema: `from_${from}`, daemonId: 'd_test' });
      t.is((await there.backups.read(rotationId, made.disabled))?.keyId, made.disabled);
      t.is(Buffer.from((await there.sealed.read(`${DATABASE}/${'1'.repeat(32)}`))!).toString(), 'what is in it');
      await there.close();

      t.is(await code(removeMigrated(dataDir)), 'INVALID_ARGUMENT');
      const { live, removed } = await removeMigrated(dataDir, store);
      t.is(live, 'postgres');
      t.true(removed.includes('keyring.json') && !existsSync(join(dataDir, 'keyring.json')));
      t.true(existsSync(join(dataDir, 'kms-audit.log')));
      const again = await createEmbeddedKms({ dataDir, masterKeyFile, store });
      t.deepEqual(Buffer.from(await again.decryptWithDek(made.active, made.ciphertext)), MESSAGE);
      await again.close();
    });
  }

  test('a migration does not replace the store of others', async (t) => {
    const [own, others] = [await filled(t, { store: 'files' }), await filled(t, { store: 'files' })];
    for (const { kms } of [own, others]) await kms.close();
    const store = { kind: 'postgres', url: server.url('postgres'), schema: 'of_others' } as const;
    await migrateStore({ dataDir: others.place.dataDir, to: store });
    t.is(await code(migrateStore({ dataDir: own.place.dataDir, to: store })), 'CONFLICT');
    const kms = await createEmbeddedKms({ ...others.place, store });
    t.deepEqual(Buffer.from(await kms.decryptWithDek(others.active, others.ciphertext)), MESSAGE);
    await kms.close();
    const still = await createEmbeddedKms({ ...own.place });
    t.deepEqual(Buffer.from(await still.decryptWithDek(own.active, own.ciphertext)), MESSAGE);
    await still.close();
  });
}
