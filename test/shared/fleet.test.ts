import { join } from 'node:path';
import test from 'ava';
import { restoreBackup } from '../../dist/backup/restore.js';
import { auditOf, createEmbeddedKms } from '../../dist/create.js';
import { KmsError } from '../../dist/errors.js';
import type { Keyring } from '../../dist/kms/keyring.js';
import type { Vault } from '../../dist/vault.js';
import { backupOf } from '../backup/ground.js';
import { PostgresServer } from '../postgres-server.js';
import { Fleet, until } from './fleet.js';

const server = PostgresServer.start();
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
  test(`SKIPPED: several daemons on one PostgreSQL: ${server}`, (t) => t.pass());
} else {
  const fleets: Fleet[] = [];
  const fleet = () => {
    const made = new Fleet(server, `fleet_${fleets.length}`);
    fleets.push(made);
    return made;
  };

  test.after.always(async () => {
    for (const each of fleets) await each.end();
    server.stop();
  });

  test('a key that one has made opens what it encrypted through the other', async (t) => {
    const all = fleet();
    const [a, b] = await Promise.all([all.open('a'), all.open('b')]);
    const { keyId } = await a!.createDekForThread('thread-1');
    const { ciphertext } = await a!.encryptWithDek(keyId, text);
    t.deepEqual(Buffer.from(await b!.decryptWithDek(keyId, ciphertext)), text);
    t.is((await b!.listKeys({ threadId: 'thread-1' })).keys[0]?.keyId, keyId);
    const again = await a!.decryptWithDek(keyId, (await b!.encryptWithDek(keyId, text)).ciphertext);
    t.deepEqual(Buffer.from(again), text);
  });

  test('what one disables, enables or destroys the other follows, without having asked', async (t) => {
    const all = fleet();
    const [a, b] = await Promise.all([all.open('a'), all.open('b')]);
    const { keyId } = await a!.createDek();
    const { ciphertext } = await b!.encryptWithDek(keyId, text);
    await a!.disableKey(keyId);
    await until(async () => (await code(() => b!.decryptWithDek(keyId, ciphertext))) === 'KEY_DISABLED');
    await a!.enableKey(keyId);
    await until(async () => (await code(() => b!.decryptWithDek(keyId, ciphertext))) === 'ok');
    await b!.disableKey(keyId);
    await b!.destroyKey(keyId);
    await until(async () => (await code(() => a!.encryptWithDek(keyId, text))) === 'KEY_DESTROYED');
    t.is(await code(() => a!.enableKey(keyId)), 'KEY_DESTROYED');
  });

  test('several that begin to use the default key at once use one, and make no other', async (t) => {
    const all = fleet();
    const daemons = await Promise.all(['a', 'b', 'c'].map((name) => all.open(name)));
    const sealed = await Promise.all(daemons.flatMap((kms) => [kms.encrypt(text), kms.encrypt(text)]));
    t.is((await daemons[0]!.listKeys()).keys.length, 1);
    for (const kms of daemons) for (const one of sealed) t.deepEqual(Buffer.from(await kms.decrypt(one)), text);
  });

  test('several that open an empty database at once make one store', async (t) => {
    const all = fleet();
    const daemons = await Promise.all(['a', 'b', 'c', 'd'].map((name) => all.open(name)));
    const { keyId } = await daemons[0]!.createDek();
    for (const kms of daemons) t.is((await kms.describeKey(keyId)).keyId, keyId);
    t.is((await all.asked('select count(*)::int as count from keyring'))[0]?.['count'], 1);
  });

  test('uses that several reserve of one key are counted together', async (t) => {
    const all = fleet();
    const [a, b] = await Promise.all([all.open('a'), all.open('b')]);
    const { keyId } = await a!.createDek();
    const batch = Array.from({ length: 1_500 }, () => text);
    for (let round = 0; round < 3; round += 1) {
      await Promise.all([a!.encryptMany(keyId, batch), b!.encryptMany(keyId, batch)]);
    }
    t.true((await a!.describeKey(keyId)).usesReserved >= 9_000);
  });

  test('a synchronous call is refused where it would have to ask the database, and serves where it has not', async (t) => {
    const all = fleet();
    const [a, b] = await Promise.all([all.open('a'), all.open('b')]);
    const { keyId } = await a!.createDek();
    t.is(await code(() => b!.encryptSync(keyId, text)), 'UNSUPPORTED');
    const sealed = a!.encryptSync(keyId, text);
    t.is(await code(() => b!.decryptSync(keyId, sealed)), 'UNSUPPORTED');
    await b!.key(keyId);
    t.deepEqual(Buffer.from(b!.decryptSync(keyId, sealed)), text);
  });

  test('more keys than are kept, all at once, are served without a synchronous call', async (t) => {
    const all = fleet();
    const a = await all.open('a', { cachedKeys: 4 });
    const keys = await Promise.all(Array.from({ length: 40 }, () => a.createDek()));
    const made = await Promise.all(keys.map(({ keyId }) => a.encryptWithDek(keyId, text)));
    const opened = await Promise.all(keys.map(({ keyId }, i) => a.decryptWithDek(keyId, made[i]!.ciphertext)));
    t.true(opened.every((one) => Buffer.from(one).equals(text)));
  });

  test('a rotation that one leads moves every key, and the other goes on with all of them and the new KEK', async (t) => {
    const all = fleet();
    const [a, b] = await Promise.all([all.open('a'), all.open('b')]);
    const keys = await Promise.all(Array.from({ length: 30 }, (_, i) => (i % 2 === 0 ? a! : b!).createDek()));
    const made = await Promise.all(keys.map(({ keyId }) => b!.encryptWithDek(keyId, text)));
    const done = await a!.rotateKek({ wait: true });
    t.is(done.state, 'idle');
    t.is(done.kekVersion, '2');
    t.is((await b!.rotationStatus()).kekVersion, '2');
    t.is((await b!.rotationStatus()).done, 30);
    const opened = await Promise.all(keys.map(({ keyId }, i) => b!.decryptWithDek(keyId, made[i]!.ciphertext)));
    t.true(opened.every((one) => Buffer.from(one).equals(text)));
    t.is((await b!.createDek()).kekVersion, '2');
    await until(async () => (await b!.encryptWithDek(keys[0]!.keyId, text)).keyVersion === '2');
    t.is((await b!.rotateKek({ wait: true })).kekVersion, '3');
    t.is((await a!.createDek()).kekVersion, '3');
  });

  test('a slot that is removed brings another root key, which the others follow without a master key', async (t) => {
    const all = fleet();
    const [a, b] = await Promise.all([all.open('a'), all.open('b')]);
    const { keyId } = await a!.createDek();
    const { slotId } = await a!.addSlot({ masterKeyFile: all.otherKeyFile });
    await a!.removeSlot(slotId);
    t.is(await code(() => b!.encryptWithDek(keyId, text)), 'ok');
    await b!.rotateKek({ wait: true });
    await until(async () => (await a!.encryptWithDek(keyId, text)).keyVersion === '2');
    // The keys that sign its log stand under the root key of now.
    await b!.close();
    const again = await all.open('b');
    t.is(await code(() => again.encryptWithDek(keyId, text)), 'ok');
  });

  test('a backup of it opens as files with every key, and one across a rotation that ended elsewhere is refused', async (t) => {
    const all = fleet();
    const [a, b] = [await all.open('a'), await all.open('b')];
    const keys = await Promise.all(Array.from({ length: 40 }, () => a.createDek()));
    const { ciphertext } = await a.encryptWithDek(keys[0]!.keyId, text);
    const path = join(all.directory, 'fleet.backup');
    await backupOf(a, path);
    const dataDir = join(all.directory, 'restored');
    const master = { kind: 'file', path: all.masterKeyFile, mayBeGroupReadable: false } as const;
    const openAudit = (place: string, vault: Vault, keyring: Keyring) => auditOf(place, {})({ vault, keyring });
    t.is((await restoreBackup({ path, dataDir, master, actor: 'uid:0', openAudit })).records, 40);
    const restored = await createEmbeddedKms({ dataDir, masterKeyFile: all.masterKeyFile });
    t.deepEqual(Buffer.from(await restored.decryptWithDek(keys[0]!.keyId, ciphertext)), text);
    await restored.close();
    const snapshot = a.snapshot();
    for await (const record of snapshot.records()) t.is(record.kekVersion, 1);
    await b.rotateKek({ wait: true });
    await until(async () => (await a.createDek()).kekVersion === '2');
    t.is(await code(() => snapshot.keyring('progressdb-kms/backup-mac/v1')), 'CONFLICT');
    snapshot.release();
  });

  test('a master key that came with a rotation succeeds the others by command, once no daemon was opened with them', async (t) => {
    const all = fleet();
    const a = await all.open('a');
    const { keyId } = await a.createDek();
    await a.rotateKek({ newMasterKeyFile: all.otherKeyFile, wait: true });
    const b = await all.open('b', { masterKeyFile: all.otherKeyFile });
    t.is((await b.slots()).length, 2, 'its start takes nothing away');
    t.is(await code(() => b.confirmSlot()), 'CONFLICT');
    await a.close();
    // Its last word may be lost on the way; then its sign of life has to go by.
    await until(async () => (await code(() => b.confirmSlot())) === 'ok');
    t.is((await b.slots()).length, 1);
    t.is(await code(() => all.open('a')), 'UNAUTHENTICATED');
    const again = await all.open('a', { masterKeyFile: all.otherKeyFile });
    t.is(await code(() => again.encryptWithDek(keyId, text)), 'ok');
  });

  test('a slot that another daemon was opened with stays as long as that one lives', async (t) => {
    const all = fleet();
    const a = await all.open('a');
    await a.addSlot({ masterKeyFile: all.otherKeyFile });
    const b = await all.open('b', { masterKeyFile: all.otherKeyFile });
    const used = (await b.slots()).find(({ inUse }) => inUse)!;
    t.is(used.state, 'pending', 'a start does not confirm it');
    t.is(await code(() => a.removeSlot(used.slotId)), 'CONFLICT');
    t.is((await b.confirmSlot()).find(({ inUse }) => inUse)?.state, 'active', 'a command does');
    await b.close();
    // Its last word may be lost on the way; then its sign of life has to go by.
    await until(async () => (await code(() => a.removeSlot(used.slotId))) === 'ok');
    t.is(await code(() => all.open('b', { masterKeyFile: all.otherKeyFile })), 'UNAUTHENTICATED');
  });
}
